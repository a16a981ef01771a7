"""GPT-BigCode: StarCoder."""

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import Config, interleaved


class GPTBigCode(GPT2):
    """GPT-2 whose heads may share keys and values, with matrices as they are elsewhere (arXiv:2301.03988)."""

    names = ("GPTBigCode",)
    activation = ("activation_function", "gelu_pytorch_tanh")
    #: by which of its own forms the other implementation computes
    inert = tuple(
        """attention_softmax_in_fp32 inference_runner max_batch_size pad_key_length pre_allocate_kv_cache
        scale_attention_softmax_in_fp32 validate_runner_input""".split()
    )
    transposed = False

    def setup(self, c: Config) -> None:
        shared = c.flag("multi_query", True)
        self.groups = 1 if shared else self.heads
        super().setup(c)
        self.by_depth = False
        if not shared:
            qkv = interleaved("attn.c_attn", self.outputs("q", "k", "v", under="self_attn"), self.heads)
            self.spelling = {**self.spelling, **qkv}
