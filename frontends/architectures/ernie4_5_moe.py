"""Ernie 4.5 MoE."""

from dataclasses import dataclass

from burnish.frontends.family import ATTENTION, MLP, Config, Experts, Layers, Routed, Value


@dataclass(frozen=True)
class Balanced:
    """The likeliest, chosen with a correction and weighed without; they add up to 1 (ERNIE 4.5, technical report)."""

    least: float

    def __call__(self, op: Layers, scores: Value, k: int) -> Routed:
        likely = op.softmax(scores, axis=-1)
        correction = op.parameter("moe_statics.e_score_correction_bias", 1, likely.shape[-1])
        _, chosen = op.top_k(likely + op.cast(correction, to="f32"), k=k)
        weights = op.gather_elements(likely, chosen, axis=-1)
        return op.div(weights, op.maximum(op.reduce_sum(weights, axes=(-1,)), self.least)), chosen


class ErnieMoe(Experts):
    """Llama with neighbours rotated, and experts in some blocks, beside an MLP of all tokens."""

    names = ("Ernie4_5_Moe",)
    keys = {"num_experts": ("moe_num_experts", "num_experts"), "num_experts_per_tok": ("moe_k", "num_experts_per_tok")}
    defaults = {"vocab_size": 103424, "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28}
    defaults |= {"num_attention_heads": 20, "num_key_value_heads": 4, "max_position_embeddings": 131072}
    defaults |= {"num_experts": 64, "num_experts_per_tok": 6, "moe_intermediate_size": 1536, "rope_theta": 500000.0}
    inert = ("moe_capacity", "num_nextn_predict_layers")  # of training; tensors that are left out
    fixed = {"moe_gate": "topk", "moe_use_aux_free": True}
    eps = ("rms_norm_eps", 1e-5)
    ties = interleaved = True
    unused = ("mtp",)  # they guess the tokens after the next

    def setup(self, c: Config) -> None:
        self.in_memory = {**self.in_memory, "mlp.moe_statics": "mlp.gate.moe_statics"}
        self.shared = self.inner * c.integer("moe_num_shared_experts", 2, least=0)
        self.route = Balanced(c.number("moe_norm_min", 1e-12))
        self.biased = (*ATTENTION, *MLP, "lm_head") if c.flag("use_bias", False) else ()
        self.interval, first = c.integer("moe_layer_interval", 1), c.integer("moe_layer_start_index", 1, least=0)
        last = c.integer("moe_layer_end_index", -1, least=-1)
        self.within = range(first, (self.layers - 1 if last == -1 else last) + 1)

    def sparse(self, layer: int) -> bool:
        return (layer + 1) % self.interval == 0 and layer in self.within

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary, "lm_head" in self.biased)
