"""Models that see or hear, given text alone."""

from typing import Any

from tests.parity.model_type import LLAMA, ModelType

SEEING = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEING |= {"image_size": 32, "patch_size": 16}
CLIP = SEEING | {"model_type": "clip_vision_model", "projection_dim": 32}
SIGLIP = SEEING | {"model_type": "siglip_vision_model"}
QWEN_SEES = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 64}
QWEN_SEES |= {"patch_size": 8}
QWEN_TOKENS = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
QWEN = LLAMA | {"bos_token_id": 1, "eos_token_id": 2}
SECTIONS = {"type": "mrope", "mrope_section": [2, 3, 3]}
PERCEIVER = {"hidden_size": 64, "resampler_n_latents": 2, "resampler_depth": 1, "resampler_n_heads": 2}
PERCEIVER |= {"resampler_head_dim": 8, "num_key_value_heads": 1}
SAM = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "mlp_dim": 32}
SAM |= {"global_attn_indexes": [1], "window_size": 2}
HEARING = {"model_type": "qwen2_audio_encoder", "encoder_layers": 1, "encoder_attention_heads": 2}
HEARING |= {"encoder_ffn_dim": 32, "d_model": 32, "num_mel_bins": 16, "max_source_positions": 8}
FOUR = LLAMA | {"num_hidden_layers": 4, "sliding_window": 7}
TIED = {"tie_word_embeddings": True}


def text(model_type: str, **fields: Any) -> dict[str, Any]:
    """The text model, in the config of the larger one."""
    return {"text_config": {**LLAMA, "model_type": model_type, **fields}}


def qwen(**fields: Any) -> dict[str, Any]:
    """The same, of Qwen's."""
    return {"text_config": {**QWEN, **fields}}


TYPES = [
    ModelType(
        "LlavaForConditionalGeneration",
        {"vision_config": CLIP, "image_token_index": 90},
        [text("llama"), text("qwen2"), text("mistral", sliding_window=7) | TIED],
    ),
    ModelType(
        "LlavaNextForConditionalGeneration",
        {"vision_config": CLIP, "image_token_index": 90},
        [text("mistral", sliding_window=None), text("llama", attention_bias=True)],
    ),
    ModelType(
        "LlavaOnevisionForConditionalGeneration",
        {"vision_config": SIGLIP, "image_token_index": 90},
        [text("qwen2"), text("qwen2") | TIED],
    ),
    ModelType(
        "Gemma3ForConditionalGeneration",
        {"vision_config": SEEING, "image_token_index": 90, "boi_token_index": 91, "eoi_token_index": 92}
        | {"mm_tokens_per_image": 4},
        [{"text_config": FOUR | {"head_dim": 16, **more}} for more in ({"num_hidden_layers": 6}, {"head_dim": 24})],
    ),
    ModelType(
        "Mistral3ForConditionalGeneration",
        {"vision_config": SEEING | {"model_type": "pixtral", "head_dim": 16}, "image_token_index": 90},
        [text("mistral", head_dim=16), text("mistral", sliding_window=7) | {"tie_word_embeddings": False}],
    ),
    ModelType(
        "SmolVLMForConditionalGeneration",
        {"vision_config": SEEING, "image_token_id": 90, "pad_token_id": 0},
        [text("llama", pad_token_id=0), text("llama", pad_token_id=0) | TIED],
    ),
    ModelType(
        "Idefics3ForConditionalGeneration",
        {"vision_config": SEEING, "image_token_id": 90, "pad_token_id": 0},
        [text("llama", pad_token_id=0), text("llama", pad_token_id=0, mlp_bias=True) | TIED],
    ),
    ModelType(
        "InternVLForConditionalGeneration",
        {"vision_config": SEEING | {"image_size": [32, 32], "patch_size": [16, 16]}, "image_token_id": 90},
        [text("qwen2"), text("qwen2") | {"tie_word_embeddings": False}],
    ),
    ModelType(
        "AyaVisionForConditionalGeneration",
        {"vision_config": SIGLIP, "image_token_index": 90},
        [{"text_config": FOUR | {"model_type": "cohere2"}}, text("cohere", logit_scale=0.5)],
    ),
    ModelType(
        "Cohere2VisionForConditionalGeneration",
        {"vision_config": SIGLIP, "image_token_id": 90, "alignment_intermediate_size": 48},
        [{"text_config": FOUR | {"model_type": "cohere2", **more}} for more in ({}, {"attention_bias": True})],
    ),
    ModelType(
        "Qwen2VLForConditionalGeneration",
        {"vision_config": QWEN_SEES | {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}} | QWEN_TOKENS,
        [
            qwen(rope_scaling=SECTIONS),
            qwen(rope_scaling=SECTIONS, use_sliding_window=True, sliding_window=7, max_window_layers=1) | TIED,
        ],
    ),
    ModelType(
        "Qwen2_5_VLForConditionalGeneration",
        {"vision_config": QWEN_SEES | {"fullatt_block_indexes": [1]}} | QWEN_TOKENS,
        [qwen(rope_scaling=SECTIONS), qwen(rope_scaling=SECTIONS, rope_theta=500.0) | TIED],
    ),
    ModelType(
        "Qwen3VLForConditionalGeneration",
        {"vision_config": QWEN_SEES | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}} | QWEN_TOKENS,
        [
            qwen(head_dim=16, rope_scaling={"mrope_section": [2, 3, 3], "mrope_interleaved": True}),
            qwen(head_dim=24, rope_scaling={"mrope_section": [4, 4, 4]}, attention_bias=True) | TIED,
        ],
    ),
    ModelType(
        "LlavaNextVideoForConditionalGeneration",
        {"vision_config": CLIP, "image_token_index": 90, "video_token_index": 91},
        [text("llama"), text("qwen2") | TIED],
    ),
    ModelType(
        "VipLlavaForConditionalGeneration",
        {"vision_config": CLIP, "image_token_index": 90, "vision_feature_layers": [-1, -2]},
        [text("llama"), text("mistral", sliding_window=7) | TIED],
    ),
    ModelType(
        "Idefics2ForConditionalGeneration",
        {"vision_config": SEEING, "image_token_id": 90, "perceiver_config": PERCEIVER},
        [text("mistral", pad_token_id=0), text("mistral", pad_token_id=0, sliding_window=7) | TIED],
    ),
    ModelType(
        "GotOcr2ForConditionalGeneration",
        {"vision_config": SAM, "image_token_index": 90},
        [text("qwen2"), text("qwen2") | {"tie_word_embeddings": False}],
    ),
    ModelType(
        "LightOnOcrForConditionalGeneration",
        {"vision_config": SEEING | {"model_type": "pixtral", "head_dim": 16}, "image_token_id": 90},
        [text("qwen3", head_dim=16), text("qwen3", head_dim=24) | {"tie_word_embeddings": False}],
    ),
    ModelType(
        "Qwen2AudioForConditionalGeneration",
        {"audio_config": HEARING, "audio_token_index": 90},
        [text("qwen2"), text("qwen2", use_sliding_window=True, sliding_window=7, max_window_layers=1)],
    ),
]
