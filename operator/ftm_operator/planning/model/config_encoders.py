"""The tensors of the encoders of images and sounds beside a decoder, by its config.json: (name, shape, how many)."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.config_modules import Tensor, mlp

PHI_4_VISION, PHI_4_VISION_LAYERS, PHI_4_VISION_WIDTH = 1152, 26, 4304
"""Phi-4-multimodal's encoder of images, of which config.json says nothing. Source: vLLM, models/phi4mm.py."""


def encoders(model: Architecture, config: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yields attention, MLP, convolutions and projections; what is left out is less than 1 %."""
    if model.model_type == "phi4mm":
        yield from _phi_4_vision(model.hidden_size)
        yield from _conformer(model.hidden_size, (config.get("audio_processor") or {}).get("config") or {})
    else:
        yield from _vision_tower(model, config)


def _vision_tower(model: Architecture, config: Mapping[str, Any]) -> Iterator[Tensor]:
    """A vision transformer and its projector."""
    vision = config.get("vision_config")
    if not model.vision or not isinstance(vision, Mapping):
        return
    hidden = model.vision.hidden_size
    layers = int(vision.get("depth", vision.get("num_hidden_layers", 24)))
    if str(config.get("model_type")).startswith("llava"):  # the layers up to the one whose features it takes
        layers = min(layers, layers + 1 + int(config.get("vision_feature_layer", -2)))
    width = int(vision.get("intermediate_size", hidden * float(vision.get("mlp_ratio", 4))))
    gated = str(vision.get("model_type", config.get("model_type"))).startswith(("qwen2_5_vl", "pixtral"))
    patch = int(vision.get("patch_size", 14))
    channels = int(vision.get("in_channels", vision.get("in_chans", vision.get("num_channels", 3))))
    frames = int(vision.get("temporal_patch_size", 1))
    name = "vision_tower.blocks.*"
    yield f"{name}.attn.qkv.weight", (3 * hidden, hidden), layers
    yield f"{name}.attn.qkv.bias", (3 * hidden,), layers
    yield f"{name}.attn.proj.weight", (hidden, hidden), layers
    yield from mlp(f"{name}.mlp", hidden, width, layers, gated)
    yield "vision_tower.patch_embed.weight", (hidden, channels * frames * patch * patch), 1
    if positions := vision.get("num_position_embeddings") or _patches(vision, patch):
        yield "vision_tower.pos_embed.weight", (int(positions), hidden), 1
    merged = hidden * int(vision.get("spatial_merge_size", 1)) ** 2
    deep = vision.get("deepstack_visual_indexes")
    if isinstance(deep, list) and deep:  # Qwen3-VL: a merger for each of these layers
        yield "vision_tower.deepstack_merger_list.*.linear_fc1.weight", (merged, merged), len(deep)
        yield "vision_tower.deepstack_merger_list.*.linear_fc2.weight", (model.hidden_size, merged), len(deep)
    if merged != hidden:
        yield "vision_tower.merger.linear_fc1.weight", (merged, merged), 1
        yield "vision_tower.merger.linear_fc2.weight", (model.hidden_size, merged), 1
    else:
        yield from _projector(model, vision, hidden)


def _patches(vision: Mapping[str, Any], patch: int) -> int:
    """Returns the patches of an image of the size that config.json says; 0: any size will do."""
    size = vision.get("image_size")
    return (size // patch) ** 2 if isinstance(size, int) else 0


def _projector(model: Architecture, vision: Mapping[str, Any], hidden: int) -> Iterator[Tensor]:
    """Yields what joins features to the decoder: two layers in LLaVA, an adapter before one in Llama 4, else one."""
    name = "multi_modal_projector"
    if str(vision.get("model_type")).startswith("llama4"):
        inner, outer = int(vision.get("projector_input_dim", 4096)), int(vision.get("projector_output_dim", 4096))
        yield "vision_tower.adapter.mlp.fc1.weight", (inner, 4 * hidden), 1
        yield "vision_tower.adapter.mlp.fc2.weight", (outer, inner), 1
        yield f"{name}.linear_1.weight", (model.hidden_size, int(vision.get("vision_output_dim", 7680))), 1
    elif str(vision.get("model_type")).startswith("clip"):
        yield f"{name}.linear_1.weight", (model.hidden_size, hidden), 1
        yield f"{name}.linear_2.weight", (model.hidden_size, model.hidden_size), 1
    else:
        yield f"{name}.projection.weight", (model.hidden_size, hidden), 1


def _phi_4_vision(hidden: int) -> Iterator[Tensor]:
    width, layers, name = PHI_4_VISION, PHI_4_VISION_LAYERS, "vision_tower.blocks.*"
    yield f"{name}.attn.qkv.weight", (3 * width, width), layers
    yield f"{name}.attn.proj.weight", (width, width), layers
    yield from mlp(f"{name}.mlp", width, PHI_4_VISION_WIDTH, layers, gated=False)
    yield "vision_tower.pos_embed.weight", (1024, width), 1
    yield "vision_tower.patch_embed.weight", (width, 3 * 14 * 14), 1
    yield "vision_tower.projector.*.weight", (hidden, width), 1
    yield "vision_tower.projector.*.weight", (hidden, hidden), 1


def _conformer(hidden: int, config: Mapping[str, Any]) -> Iterator[Tensor]:
    """Phi-4-multimodal's encoder of sounds. Source: vLLM, models/phi4mm_audio.py, which holds it whole on each rank."""
    width, inner = int(config.get("attention_dim", 1024)), int(config.get("linear_units", 1536))
    blocks, name = int(config.get("num_blocks", 24)), "audio_tower.blocks.*"
    for end in ("in", "out"):
        yield f"{name}.feed_forward_{end}.net.*.linear.weight", (2 * inner, width), blocks
        yield f"{name}.feed_forward_{end}.net.*.weight", (width, inner), blocks
    for part in "qkv":
        yield f"{name}.attn.linear_{part}.weight", (width, width), blocks
    yield f"{name}.attn.linear_out.weight", (width, width), blocks
    yield f"{name}.conv.glu.weight", (2 * width, width), blocks
    yield f"{name}.conv.pointwise.*.weight", (width, width), 2 * blocks
    frequencies = int(config.get("input_size", 80)) // int(config.get("time_reduction", 8))
    yield "audio_tower.embed.out.weight", (width, width * frequencies), 1
    yield "audio_tower.embed.pointwise.*.weight", (width, width), 2
    for mode in ("speech", "vision"):
        yield f"audio_tower.projector.{mode}.*.weight", (hidden, width), 1
        yield f"audio_tower.projector.{mode}.*.weight", (hidden, hidden), 1
