"""What a family's file is written in: the templates, their words, and what configs and checkpoints are read by."""

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.alibi import alibi_slopes
from burnish.frontends.architecture import Architecture, Layers
from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.pooling import Pooling, first_token
from burnish.frontends.rotary import Rotation, original_context, rope_by_type, rope_frequencies, rope_section
from burnish.frontends.sinusoids import sinusoids
from burnish.frontends.stored import Conventions, RowMap, Spelling, interleaved, joined
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.encoder_decoder import EncoderDecoder
from burnish.frontends.templates.experts import Corrected, Experts, Routed, SoftmaxOfAll
from burnish.frontends.templates.transformer import ATTENTION, MLP, At, Step, windows
from burnish.ir.graph import Value

__all__ = [
    "ACTIVATIONS",
    "ATTENTION",
    "MLP",
    "Architecture",
    "At",
    "Config",
    "Conventions",
    "Corrected",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Experts",
    "Layers",
    "LoadError",
    "Pooling",
    "Rotation",
    "Routed",
    "RowMap",
    "SoftmaxOfAll",
    "Spelling",
    "Step",
    "Value",
    "alibi_slopes",
    "first_token",
    "interleaved",
    "joined",
    "original_context",
    "rope_by_type",
    "rope_frequencies",
    "rope_section",
    "shown",
    "sinusoids",
    "windows",
]
