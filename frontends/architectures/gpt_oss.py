"""gpt-oss."""

from dataclasses import replace

from burnish.frontends.family import At, Config, Experts, Layers, RowMap, Value, windows

_CONTEXT = {"original_max_position_embeddings": 4096}


class GptOss(Experts):
    """Experts with biases and bounds, sinks of attention, every other layer within a window (arXiv:2508.10925)."""

    names = ("GptOss",)
    keys = {"num_experts": ("num_local_experts", "num_experts"), "moe_intermediate_size": "intermediate_size"}
    defaults = {"vocab_size": 201088, "hidden_size": 2880, "moe_intermediate_size": 2880, "num_hidden_layers": 36}
    defaults |= {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "sliding_window": 128}
    defaults |= {"max_position_embeddings": 131072, "num_experts": 128, "num_experts_per_tok": 4}
    defaults |= {"rope_theta": 150000.0}
    defaults |= {"rope_parameters": {"rope_type": "yarn", "factor": 32.0, "truncate": False} | _CONTEXT}
    inert = ("experts_per_token", "initial_context_length")  # what other fields say
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": True}
    route_bias = True

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: layer % 2 == 0)
        self.alpha, self.limit = c.number("swiglu_alpha", 1.702), c.number("swiglu_limit", 7.0)
        self.in_memory, self.spelling = {}, {"mlp.gate": "mlp.router"}
        for i, name in enumerate(("gate", "up")):
            for kind, stored in (("weight", "gate_up_proj"), ("bias", "gate_up_proj_bias")):
                rows = RowMap(f"mlp.experts.{stored}", (self.inner,) * 2, i, self.inner, transposed=True, behind=1)
                self.spelling[f"mlp.experts.{name}_proj.{kind}"] = rows
        self.spelling["mlp.experts.down_proj.weight"] = RowMap("mlp.experts.down_proj", transposed=True, behind=1)
        self.spelling["mlp.experts.down_proj.bias"] = "mlp.experts.down_proj_bias"

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        return super().attend(op, q, k, v, replace(at, sinks=op.parameter("sinks", self.heads)))

    def of_experts(self, op: Layers, name: str, x: Value, chosen: Value, bias: bool = True) -> Value:
        return super().of_experts(op, name, x, chosen, bias)

    def combined(self, op: Layers, gate: Value, up: Value) -> Value:
        gate, up = op.minimum(gate, self.limit), op.maximum(op.minimum(up, self.limit), -self.limit)
        return (up + 1.0) * gate * op.sigmoid(gate * self.alpha)
