"""Architectures that people have and that are not supported, by what they are."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["kind_of"]

#: by what they are: the names of their classes without the head, `plain`
_KINDS: Mapping[str, str] = {
    "a hybrid of attention and recurrent layers": """bailinghybrid bamba falconh1 granitemoehybrid jamba kimilinear lfm2
        lfm2moe lfm2vl lfm3 minimax minimaxtext01 nemotronh olmohybrid qwen35 qwen35moe qwen3next recurrentgemma zamba
        zamba2""",
    "a model of a state space, of another kind than Mamba": "codestralmamba falconmamba mamba2 rwkv xlstm",
    "of the kind that attends to a latent of keys and values": """deepseekv2 deepseekv3 deepseekv32 glm4moelite
        glmmoedsa kimik2 kimik25 longcatflash minicpm3 mistral4 youtu""",
    "Gemma 3n": "gemma3n gemma3ntext",
    "Gemma 4": "gemma4 gemma4text gemma4unified",
}


def kind_of(name: str) -> str | None:
    """What an architecture of that name, `plain`, is; None where it is not known."""
    return next((kind for kind, names in _KINDS.items() if name in names.split()), None)
