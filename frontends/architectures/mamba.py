"""Mamba."""

from collections.abc import Sequence

from burnish.frontends.family import ACTIVATIONS, Architecture, Config, Layers, Value


class Mamba(Architecture):
    """Decoder without attention: blocks of a short convolution and the scan of a state space (arXiv:2312.00752)."""

    names = ("Mamba",)
    base = "backbone"
    #: how parameters begin in training, which of its own forms the other implementation takes, sizes said twice
    inert = (
        *("d_inner", "d_model", "fused_add_norm", "n_layer", "pad_vocab_size_multiple"),
        *("rescale_prenorm_residual", "residual_in_fp32", "time_step_floor", "time_step_init_scheme"),
        *("time_step_max", "time_step_min", "time_step_scale", "use_associative_scan", "use_mambapy"),
    )
    fixed = {"rms_norm": True, "ssm_cfg": {}}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = self.config
        self.vocabulary, self.width = c.integer("vocab_size"), c.integer("hidden_size")
        self.eps, self.state = c.number("layer_norm_epsilon", 1e-5), c.integer("state_size", 16, most=4096)
        self.kernel = c.integer("conv_kernel", 4, most=64)
        self.inner = c.integer("intermediate_size", c.integer("expand", 2, most=64) * self.width)
        automatic = c.get("time_step_rank") in (None, "auto")
        self.rank = -(-self.width // 16) if automatic else c.integer("time_step_rank")
        self.bias, self.conv_bias = c.flag("use_bias", False), c.flag("use_conv_bias", True)
        self.activation = ACTIVATIONS[c.choice("hidden_act", ACTIVATIONS, "silu")]

    def tied(self) -> Sequence[Sequence[str]]:
        tied = self.config.flag("tie_word_embeddings", True)
        return [("backbone.embeddings.weight", "lm_head.weight")] if tied else []

    def forward(self, op: Layers, ids: Value) -> Value:
        x = op.embedding("embeddings", ids, self.vocabulary, self.width)
        for i in range(self.config.integer("num_hidden_layers", most=1024)):
            with op.block("layers", i):
                y = op.rms_norm("norm", x, self.eps)
                with op.scope("mixer"):
                    x = x + self.mix(op, y)
        return op.rms_norm("norm_f", x, self.eps)

    def mix(self, op: Layers, x: Value) -> Value:
        y = op.linear("in_proj", x, 2 * self.inner, self.bias)
        y, gate = op.split(y, axis=-1, sizes=(self.inner, self.inner))
        y = self.scan(op, self.activation(op, self.convolve(op, y)))
        return op.linear("out_proj", y * op.silu(gate), self.width, self.bias)

    def convolve(self, op: Layers, x: Value) -> Value:
        with op.scope("conv1d"):
            w = op.squeeze(op.parameter("weight", self.inner, 1, self.kernel), axes=(1,))
            return op.causal_conv(x, w, op.parameter("bias", self.inner) if self.conv_bias else None)

    def scan(self, op: Layers, x: Value) -> Value:
        sizes = (self.rank, self.state, self.state)
        dt, b, c = op.split(op.linear("x_proj", x, sum(sizes)), axis=-1, sizes=sizes)
        dt = op.softplus(op.linear("dt_proj", dt, self.inner, bias=True))
        a = op.neg(op.exp(op.cast(op.parameter("A_log", self.inner, self.state), to="f32")))
        y, _ = op.selective_scan(x, dt, a, b, c, op.parameter("D", self.inner))
        return y
