"""Names on disk become names in memory by the table, for the submodels that config.json names."""

from typing import Any

import pytest

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.transformers_tables.transforms import Transform, WeightNames
from ftm_jobs.transformers_tables.weight_names import class_of, transforms

Q_PROJ = "layers.0.self_attn.q_proj.weight"


def config(model_type: str, vision: str = "", text: str = "") -> dict[str, Any]:
    objects = {"vision_config": vision, "text_config": text}
    return {"model_type": model_type} | {name: {"model_type": inner} for name, inner in objects.items() if inner}


@pytest.mark.parametrize(
    ("architecture", "content", "disk", "memory"),
    [
        (
            "Gemma3ForConditionalGeneration",
            config("gemma3", "siglip_vision_model", "gemma3_text"),
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
            "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight",
        ),
        (
            "LlavaForConditionalGeneration",
            config("llava", "clip_vision_model", "llama"),
            f"vision_tower.vision_model.encoder.{Q_PROJ}",
            f"model.vision_tower.encoder.{Q_PROJ}",
        ),
        (
            "LlavaForConditionalGeneration",
            config("llava", "pixtral", "mistral"),
            "vision_tower.transformer.layers.0.attention.q_proj.weight",
            "model.vision_tower.transformer.layers.0.attention.q_proj.weight",
        ),
        (
            "Mistral3ForConditionalGeneration",
            config("mistral3", "pixtral", "mistral"),
            f"language_model.model.{Q_PROJ}",
            f"model.language_model.{Q_PROJ}",
        ),
        (
            "PaliGemmaForConditionalGeneration",
            config("paligemma", "siglip_vision_model", "gemma"),
            "language_model.lm_head.weight",
            "lm_head.weight",
        ),
        (
            "MllamaForConditionalGeneration",
            config("mllama", "mllama_vision_model", "mllama_text_model"),
            f"language_model.model.{Q_PROJ}",
            f"model.language_model.{Q_PROJ}",
        ),
        (
            "Qwen2_5_VLForConditionalGeneration",
            config("qwen2_5_vl", "qwen2_5_vl"),
            "visual.blocks.0.attn.qkv.weight",
            "model.visual.blocks.0.attn.qkv.weight",
        ),
        ("Qwen2VLForConditionalGeneration", config("qwen2_vl"), f"model.{Q_PROJ}", f"model.language_model.{Q_PROJ}"),
        ("NemotronHForCausalLM", config("nemotron_h"), "backbone.layers.0.mixer.q_proj.weight", None),
        ("GPTNeoXForCausalLM", config("gpt_neox"), "embed_out.weight", "lm_head.weight"),
        (
            "PhimoeForCausalLM",
            config("phimoe"),
            "model.layers.0.block_sparse_moe.gate.weight",
            "model.layers.0.mlp.router.weight",
        ),
        (
            "GraniteMoeForCausalLM",
            config("granitemoe"),
            "model.layers.0.block_sparse_moe.router.layer.weight",
            "model.layers.0.block_sparse_moe.router.weight",
        ),
    ],
)
def test_a_tensor_is_found_by_its_name_in_memory(
    architecture: str, content: dict[str, Any], disk: str, memory: str | None
) -> None:
    memory = memory or disk.replace("backbone.", "model.")
    assert WeightNames(transforms(architecture, content)).renamed(disk) == memory
    names = BaseNames([disk, "other.weight"], content | {"architectures": [architecture]})
    assert names.find(memory) == disk
    assert names.find(disk) == disk


@pytest.mark.parametrize(
    ("architecture", "content", "disk", "adapter"),
    [
        ("LlamaForCausalLM", config("llama"), f"model.{Q_PROJ}", Q_PROJ),
        ("LlamaModel", config("llama"), Q_PROJ, f"model.{Q_PROJ}"),
        ("GPT2LMHeadModel", config("gpt2"), "h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight"),
        ("FalconForCausalLM", config("falcon"), "transformer.h.0.mlp.weight", "h.0.mlp.weight"),
        (
            "Gemma3ForConditionalGeneration",
            config("gemma3", "siglip_vision_model", "gemma3_text"),
            f"language_model.model.{Q_PROJ}",
            f"model.{Q_PROJ}",
        ),
        (
            "Gemma3ForConditionalGeneration",
            config("gemma3", "siglip_vision_model", "gemma3_text"),
            f"vision_tower.vision_model.encoder.{Q_PROJ}",
            f"model.vision_tower.vision_model.encoder.{Q_PROJ}",
        ),
        ("Gemma3ForCausalLM", config("gemma3_text"), f"model.{Q_PROJ}", f"model.language_model.{Q_PROJ}"),
        ("Gemma3ForCausalLM", config("gemma3_text"), f"model.{Q_PROJ}", f"language_model.model.{Q_PROJ}"),
        ("NemotronHForCausalLM", config("nemotron_h"), f"backbone.{Q_PROJ}", Q_PROJ),
        ("ChatGLMModel", config("chatglm"), "transformer.encoder.layers.0.mlp.weight", "encoder.layers.0.mlp.weight"),
    ],
)
def test_a_tensor_is_found_by_the_name_in_other_classes_and_older_versions(
    architecture: str, content: dict[str, Any], disk: str, adapter: str
) -> None:
    assert BaseNames([disk, "other.weight"], content | {"architectures": [architecture]}).find(adapter) == disk


def test_a_layer_of_the_language_model_is_never_taken_for_one_of_the_vision_tower() -> None:
    gemma = config("gemma3", "siglip_vision_model", "gemma3_text")
    vision = f"vision_tower.vision_model.encoder.{Q_PROJ}"
    names = BaseNames([vision], gemma)
    for name in (f"model.{Q_PROJ}", Q_PROJ, f"encoder.{Q_PROJ}", f"model.language_model.{Q_PROJ}"):
        assert names.stored(name) == [], name


def test_a_weight_that_is_cut_out_of_a_tensor_is_known_but_is_none() -> None:
    fused = Transform(("attn.Wqkv",), ("attn.q_proj", "attn.k_proj", "attn.v_proj"), ("Chunk dim=0",))
    weights = WeightNames([fused]).in_memory(["layers.0.attn.Wqkv.weight"])
    assert sorted(weights) == [f"layers.0.attn.{part}_proj.weight" for part in "kqv"]
    ((stored,),) = (weights["layers.0.attn.k_proj.weight"],)
    assert (stored.tensor, stored.merged_experts, stored.target) == (None, (), 1)


def test_experts_are_in_their_numbers_order() -> None:
    disk = [
        f"model.layers.0.mlp.experts.{number}.{part}_proj.weight" for number in (10, 9, 0) for part in ("up", "gate")
    ]
    names = BaseNames(disk, config("qwen3_moe"))
    (stored,) = names.stored("model.layers.0.mlp.experts.gate_up_proj")
    assert stored.merged_experts == tuple(
        tuple(f"model.layers.0.mlp.experts.{number}.{part}_proj.weight" for number in (0, 9, 10))
        for part in ("gate", "up")
    )
    assert names.is_parameter("model.layers.0.mlp.experts.9.up_proj.weight")
    assert names.is_parameter("model.layers.0.mlp.gate.weight")
    assert not names.is_parameter("model.layers.0.mlp.shared_expert_gate.weight")


def test_renames_that_share_a_name_count_only_where_the_first_of_them_does() -> None:
    shift = Transform(("norm0", "norm1"), ("norm1", "norm2"), together=True)
    assert sorted(WeightNames([shift]).in_memory(["norm0", "norm1"])) == ["norm1", "norm2"]
    assert sorted(WeightNames([shift]).in_memory(["norm1", "norm2"])) == ["norm1", "norm2"]


def test_two_tensors_that_are_one_weight_are_both_named_and_neither_is_taken() -> None:
    disk = [f"language_model.model.{Q_PROJ}", f"model.language_model.{Q_PROJ}"]
    names = BaseNames(disk, config("llava", "clip_vision_model", "llama"))
    assert [stored.sources for stored in names.stored(disk[1])] == [((disk[0],),), ((disk[1],),)]
    assert names.find(disk[1]) is None


def test_a_config_that_names_no_class_has_the_usual_one_of_its_model_type() -> None:
    gemma = config("gemma3", "siglip_vision_model", "gemma3_text")
    disk = f"vision_tower.vision_model.encoder.{Q_PROJ}"
    assert BaseNames([disk], gemma).find(f"model.vision_tower.encoder.{Q_PROJ}") == disk
    own_code = gemma | {"architectures": ["SomebodysGemma"]}
    assert class_of(own_code) == "SomebodysGemma"
    assert BaseNames([f"{disk}.odd"], own_code).find(f"model.vision_tower.encoder.{Q_PROJ}") is None
