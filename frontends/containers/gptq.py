"""GPTQ: integers packed in words along the inputs, with a scale and a zero point for each group of them."""

from __future__ import annotations

import numpy as np

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import Container
from burnish.ir.dims import Dim
from burnish.ir.format import FORMATS
from burnish.ir.graph import Value
from burnish.ir.types import Type

BITS, GROUP, FORMAT = 4, 128, "int4_128"
#: how the numbers were found, and how others run them
INERT = """batch_size block_name_to_quantize cache_block_outputs damp_percent damp_auto_increment dataset exllama_config
    lm_head max_input_length meta model_file_base_name model_name_or_path model_seqlen module_name_preceding_first_block
    modules_in_block_to_quantize pad_token_id quantizer static_groups sym tokenizer true_sequential use_cuda_fp16
    use_exllama disable_exllama version backend quant_method desc_act hyb_act act_group_aware"""


class Gptq(Container):
    """`qweight` i32[K/8, N], `qzeros` i32[K/G, N/8], `scales` f16[K/G, N]: int4_128[N, K] (arXiv:2210.17323).

    Words hold the numbers of 8 inputs, or the zero points of 8 outputs, from bit 0 up. Zero points are stored less one
    but for the format gptq_v2. With act-order the inputs of a group do not follow each other: that is refused.
    Tools store a `bias` of zeros beside them where the module has none.
    """

    name = "gptq"
    by_outputs = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for key, only in (("bits", BITS), ("group_size", GROUP)):
            if (given := config.get(key)) != only:
                raise LoadError(f"{config.where}: {key} {given!r} is not supported; supported is {only}")
        if config.flag("desc_act", False):
            raise LoadError(f"{config.where}: desc_act (act-order) is not supported: groups must be of inputs in order")
        formats = {config.choice(k, ["gptq", "gptq_v2"], "gptq") for k in ("checkpoint_format", "format")}
        config.choice("pack_dtype", ["int32"], "int32")
        self.less = 0 if "gptq_v2" in formats else 1
        for key in INERT.split():
            config.get(key)

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """The weight [N, K] of a module."""
        module, _, kind = name.rpartition(".")
        words = op.stored(f"{module}.qweight") if kind == "weight" else None
        if words is None:
            return None
        where = f"{self.config.where}: {module}"
        zeros, scales = (self._needed(op, f"{module}.{n}") for n in ("qzeros", "scales"))
        outputs, inputs = (int(d) for d in shape if isinstance(d, int))
        per_word, groups = 32 // BITS, inputs // GROUP
        wanted = {
            "qweight": (words, Type("i32", (inputs // per_word, outputs))),
            "qzeros": (zeros, Type("i32", (groups, outputs // per_word))),
            "scales": (scales, Type("f16", (groups, outputs))),
        }
        for part, (value, type) in wanted.items():
            if value.type != type or inputs % GROUP or outputs % per_word:
                whole = f"a weight of [{outputs}, {inputs}]"
                raise LoadError(f"{where}.{part} is {value.type}, but must be {type} for {whole}")
        self._check_order(op, f"{module}.g_idx", inputs)
        bias = op.data(f"{module}.bias", outputs)
        if bias is not None and not bias.any():
            op.stored(f"{module}.bias")
        code = op.transpose(op.unpack_bits(words, bits=BITS, axis=0), perm=(1, 0))
        zero = op.transpose(op.unpack_bits(zeros, bits=BITS, axis=1, plus=self.less), perm=(1, 0))
        parts = {"code": code, "zero": zero, "scale": op.transpose(scales, perm=(1, 0))}
        return op.pack_parts(*(parts[p.name] for p in FORMATS[FORMAT].parts), format=FORMAT)

    def _needed(self, op: Layers, name: str) -> Value:
        value = op.stored(name)
        if value is None:
            raise LoadError(f"{self.config.where}: {name} is missing")
        return value

    def _check_order(self, op: Layers, name: str, inputs: int) -> None:
        """Raise LoadError where the group of each input is not that of its place."""
        stored = op.stored(name)
        if stored is None:
            return
        groups = op.data(name, inputs)
        if stored.shape != (inputs,) or (groups is not None and not np.array_equal(groups, np.arange(inputs) // GROUP)):
            why = "the inputs are in another order (act-order), which is not supported"
            raise LoadError(f"{self.config.where}: {name}: {why}")
