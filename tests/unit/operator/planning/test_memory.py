"""Bytes of one rank against what is published and what the formulae's own examples say."""

from dataclasses import replace
from math import ceil, prod

import pytest

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.facts import TensorGroup
from ftm_operator.planning.memory.engine_setup import (
    AdapterSlots,
    Draft,
    EngineSetup,
    captured_graphs,
    version_of_image,
)
from ftm_operator.planning.memory.kv_cache import CacheOptions, kv_cache
from ftm_operator.planning.memory.llama_cpp import cache_bytes
from ftm_operator.planning.memory.lora import slot_bytes
from ftm_operator.planning.memory.reserves import Batch, Reserve, activations, default_batch, reserves, rotary_table
from ftm_operator.planning.memory.speculation import draft_bytes, with_draft_layers
from ftm_operator.planning.memory.weights import rank_shape, rank_weights, stage_layers
from ftm_operator.planning.model.architecture import Indexer, architecture
from ftm_operator.planning.model.layer_attention import LayerAttention
from ftm_operator.planning.model.quantization import AWQ, FP8, NONE, Scheme
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.tensor_parallel import Split, first_rejection
from tests.unit.operator.planning.catalogue import base_facts_of, model_of

H100 = Batch(8192, 1024)
PUBLISHED = [
    ("qwen3-0.6b", 1, NONE, 1.12, 5.56, 0.13),
    ("llama-3.1-8b", 1, NONE, 14.99, 4.76, 0.13),
    ("qwen3-32b", 1, NONE, 61.03, 5.64, 0.14),
    ("gpt-oss-20b", 1, None, 13.47, 7.38, 0.13),
    ("gpt-oss-120b", 1, None, 64.38, 7.38, 0.13),
    ("llama-3.1-70b", 2, FP8, 33.88, 4.84, 0.55),
]
"""Model, ranks, packing, then GiB of weights, activations and non-torch memory, as reserves.py has them."""


@pytest.mark.parametrize(("name", "tp", "scheme", "weights", "peak", "non_torch"), PUBLISHED)
def test_predictions_agree_with_what_an_h100_reported(
    name: str, tp: int, scheme: Scheme | None, weights: float, peak: float, non_torch: float
) -> None:
    model = model_of(name)
    predicted = rank_weights(model, tp, 1, "bfloat16", scheme or model.quantization).total
    assert predicted / GIB == pytest.approx(weights, rel=0.01)
    found = reserves(model, Layout(tp, 1, 1), "bfloat16", H100, EngineSetup((0, 20)))
    assert found["activations"].most / GIB == pytest.approx(peak, rel=0.015)
    assert found["nonTorch"].least / GIB <= non_torch <= found["nonTorch"].most / GIB
    assert found["cudaGraphs"].most == 0


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("docker.io/vllm/vllm-openai:v0.33.0", (0, 33)),
        ("registry:5000/vllm:0.19.1rc1-cu128", (0, 19)),
        ("vllm:v1.2", (1, 2)),
        ("vllm:0.2x", None),
        ("vllm:latest", None),
        ("registry:5000/vllm@sha256:0123", None),
    ],
)
def test_a_version_is_that_of_the_images_tag(image: str, version: tuple[int, int] | None) -> None:
    assert version_of_image(image) == version


@pytest.mark.parametrize(
    ("name", "version", "runner", "deducts"),
    [
        ("llama-3.1-8b", (0, 20), "V1", False),
        ("llama-3.1-8b", (0, 21), "V1", True),
        ("llama-3.1-8b", (0, 25), "V2", True),
        ("gpt-oss-20b", (0, 28), "V1", True),
        ("jamba-v0.1", (0, 28), "V1", True),
        ("gpt-oss-20b", (0, 29), "V2", True),
        ("llama-3.1-8b", None, "V1 or V2", True),
    ],
)
def test_the_regime_follows_from_the_version_and_the_model(
    name: str, version: tuple[int, int] | None, runner: str, deducts: bool
) -> None:
    engine = EngineSetup(version)
    assert (engine.runner(model_of(name)), engine.deducts_graphs) == (runner, deducts)
    assert not replace(engine, eager=True).deducts_graphs


def test_an_unknown_engine_is_held_to_the_worse_of_both_runners() -> None:
    def of(version: tuple[int, int] | None) -> Reserve:
        return activations(model_of("llama-3.1-8b"), 1, "bfloat16", H100, EngineSetup(version))

    assert of(None).most == of((0, 21)).most > of((0, 33)).most
    assert of(None).least == of((0, 33)).least < of((0, 21)).least


def test_a_first_start_compiles_in_the_forward_pass_unless_it_is_eager() -> None:
    def of(*, eager: bool) -> Reserve:
        return activations(model_of("mistral-7b-v0.1"), 1, "float16", Batch(2048, 8), EngineSetup(eager=eager))

    assert of(eager=False).most - of(eager=True).most == GIB
    assert of(eager=True).most == of(eager=True).least == of(eager=False).least


@pytest.mark.parametrize(
    ("sequences", "capability", "drafts", "graphs"),
    [
        (256, (9, 0), 0, 51),
        (1024, None, 0, 51),
        (1024, (10, 0), 0, 83),
        (32, (9, 0), 0, 11),
        (1, None, 0, 2),
        (32, None, 1, 38),
    ],
)
def test_graphs_are_captured_for_every_size_of_a_batch(
    sequences: int, capability: tuple[int, int] | None, drafts: int, graphs: int
) -> None:
    assert captured_graphs(sequences, capability, drafts) == graphs


def test_a_sum_over_one_rank_is_the_checkpoint() -> None:
    model = model_of("llama-3.1-70b")
    assert rank_weights(model, 1, 1, "bfloat16", NONE).total == 70_553_706_496 * 2


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_divide_all_but_norms(tp: int) -> None:
    model = model_of("llama-3.1-70b")
    norms = (80 * 2 + 1) * 8192 * 2
    assert rank_weights(model, tp, 1, "bfloat16", NONE).total == (70_553_706_496 * 2 - norms) // tp + norms


def test_keys_and_values_are_replicated_when_there_are_more_ranks_than_heads() -> None:
    model = model_of("gemma-2b")
    whole, split = (rank_weights(model, tp, 1, "bfloat16", NONE).attention for tp in (1, 8))
    keys_and_values = 18 * 2 * 256 * 2048 * 2
    assert split == (whole - keys_and_values) // 8 + keys_and_values


def test_tied_embeddings_are_held_once_and_on_both_ends_of_a_pipeline() -> None:
    model = model_of("llama-3.2-1b")
    table = 128256 * 2048 * 2
    assert rank_weights(model, 1, 1, "bfloat16", NONE).embedding == table
    assert rank_weights(model, 1, 2, "bfloat16", NONE).embedding == table
    untied = model_of("llama-3.1-8b")
    assert (
        rank_weights(untied, 1, 1, "bfloat16", NONE).embedding
        == 2 * rank_weights(untied, 1, 2, "bfloat16", NONE).embedding
    )


def test_four_bits_with_groups_of_128_take_the_bytes_of_their_formula() -> None:
    assert AWQ.linear_bytes(4096, 14336) == 4096 * 14336 // 2 + 4096 * 112 * 2 + 4096 * 112 // 2
    model = model_of("mistral-7b-v0.1")
    assert rank_weights(model, 1, 1, "float16", AWQ).total / GIB == pytest.approx(3.87, rel=0.01)


def test_float32_weights_are_served_in_16_bits() -> None:
    model = model_of("gpt2")
    assert rank_weights(model, 1, 1, "float16", NONE).total * 2 == pytest.approx(model.weight_bytes, rel=0.001)


def test_layers_that_only_speculation_loads_are_not_counted() -> None:
    model = model_of("llama-3-8b")
    extra = TensorGroup(name="model.layers.+.eh_proj.weight", shape=(4096, 8192), dtype="BF16", count=1)
    more = replace(model, tensors=(*model.tensors, extra))
    assert rank_weights(more, 1, 1, "bfloat16", NONE) == rank_weights(model, 1, 1, "bfloat16", NONE)


@pytest.mark.parametrize(("layers", "pp", "wanted"), [(32, 2, [16, 16]), (61, 2, [31, 30]), (80, 3, [26, 27, 27])])
def test_stages_are_as_even_as_they_can_be(layers: int, pp: int, wanted: list[int]) -> None:
    assert sum(stage_layers(layers, pp)) == layers
    assert sorted(stage_layers(layers, pp)) == sorted(wanted)


@pytest.mark.parametrize(
    ("name", "tp", "bytes_per_token"),
    [("mistral-7b-v0.3", 1, 128 * 1024), ("llama-3.1-70b", 4, 80 * 1024), ("deepseek-v3", 8, 61 * 576 * 2)],
)
def test_a_token_takes_the_bytes_of_the_formula(name: str, tp: int, bytes_per_token: int) -> None:
    cache = kv_cache(model_of(name), tp, 1, "bfloat16", 2048)
    assert cache.pool_block_bytes == cache.block_tokens * bytes_per_token


def test_a_latent_is_the_same_on_each_rank() -> None:
    one, eight = (kv_cache(model_of("deepseek-v3"), tp, 1, "bfloat16", 2048) for tp in (1, 8))
    assert one == eight


def test_a_window_bounds_what_a_sequence_holds() -> None:
    cache = kv_cache(model_of("mistral-7b-v0.1"), 1, 1, "float16", 2048)
    assert cache.sequence_blocks(4096) == 4096 // 16 + 1
    assert cache.sequence_blocks(32768) == (4095 + 2 * 2048 + 15) // 16 + 1


def test_layers_of_several_kinds_share_a_pool_in_groups_of_the_rarest() -> None:
    cache = kv_cache(model_of("gemma-3-1b"), 1, 1, "bfloat16", 2048)
    assert dict(cache.groups) == {LayerAttention("sliding", 512): 6, LayerAttention("full"): 1}
    assert cache.pool_block_bytes == 4 * 16 * 2 * 256 * 2
    equal = kv_cache(model_of("gpt-oss-20b"), 1, 1, "bfloat16", 2048)
    assert dict(equal.groups) == {LayerAttention("sliding", 128): 1, LayerAttention("full"): 1}


@pytest.mark.parametrize(("prefix_caching", "pages"), [(True, 2), (False, 1)])
def test_a_state_takes_its_pages_however_long_the_sequence(prefix_caching: bool, pages: int) -> None:
    options = CacheOptions(prefix_caching=prefix_caching)
    cache = kv_cache(model_of("jamba-v0.1"), 1, 1, "bfloat16", 2048, options)
    groups = dict(cache.groups)
    assert groups == {LayerAttention("state"): 7, LayerAttention("full"): 1}
    assert cache.sequence_blocks(65536) == 7 * pages + ceil(65536 / cache.block_tokens)


@pytest.mark.parametrize(
    ("said", "asked", "size"), [(None, None, 2), ("float32", None, 4), ("float32", "bfloat16", 2), (None, "float32", 4)]
)
def test_a_state_has_the_dtype_of_serving_where_nothing_else_is_said(
    said: str | None, asked: str | None, size: int
) -> None:
    model = model_of("qwen3-next-80b-a3b")
    assert model.state
    model = replace(model, state=replace(model.state, recurrent_dtype=said))
    cache = kv_cache(model, 1, 1, "bfloat16", 2048, CacheOptions(recurrent_dtype=asked))
    state = (2 * 16 + 32) * 128 * 3 * 2 + 32 * 128 * 128 * size
    assert cache.block_tokens == 16 * ceil(state / (16 * 2 * 2 * 256 * 2))


def test_a_convolution_does_not_follow_the_caches_dtype() -> None:
    model = model_of("qwen3-next-80b-a3b")
    halved = kv_cache(model, 1, 1, "fp8", 2048, CacheOptions(serving_dtype="bfloat16"))
    state = (2 * 16 + 32) * 128 * 3 * 2 + 32 * 128 * 128 * 2
    assert halved.block_tokens == 16 * ceil(state / (16 * 2 * 2 * 256))


def test_cuda_graphs_need_a_block_for_each_sequence_where_layers_keep_a_state() -> None:
    options = CacheOptions(graph_sequences=1024)
    cache = kv_cache(model_of("jamba-v0.1"), 1, 1, "bfloat16", 2048, options)
    assert cache.needed_bytes(1, 4096) == 1024 * cache.pool_block_bytes
    plain = kv_cache(model_of("llama-3.1-8b"), 1, 1, "bfloat16", 2048, options)
    assert plain.needed_bytes(1, 4096) == (4096 // 16 + 1) * plain.pool_block_bytes


def test_an_index_is_kept_beside_the_latent() -> None:
    model = replace(model_of("deepseek-v3"), indexer=Indexer(64, 128, 61, 2048))
    assert kv_cache(model, 8, 1, "bfloat16", 2048).pool_block_bytes == 64 * 61 * (576 * 2 + 132)
    assert kv_cache(model, 8, 1, "fp8", 2048).pool_block_bytes == 64 * 61 * (656 + 132)


def test_the_tokens_that_an_index_chooses_have_a_buffer() -> None:
    found = reserves(model_of("glm-5"), Layout(8, 1, 1), "bfloat16", H100, EngineSetup((0, 20)))
    assert found["chosenTokens"] == Reserve(8192 * 2048 * 4, 8192 * 2048 * 4)


def test_a_packed_projection_of_latents_is_held_unpacked_too() -> None:
    model = model_of("deepseek-v3")
    held = rank_weights(model, 8, 1, "bfloat16", model.quantization).attention
    scheme = replace(model.quantization, experts_only=True)
    as_stored = [each for each in model.tensors if ".self_attn." in each.name and len(each.shape) == 2]
    packed = sum(each.count * model.quantization.linear_bytes(*rank_shape(each, model, 8)) for each in as_stored)
    norms = sum(2 * each.count * each.shape[0] for each in model.tensors if "_a_layernorm" in each.name)
    assert held - packed - norms == 61 * 16 * (128 + 128) * 512 * 2
    assert rank_weights(model, 8, 1, "bfloat16", scheme).attention == sum(
        2 * each.count * prod(rank_shape(each, model, 8)) for each in model.tensors if ".self_attn." in each.name
    )


def test_adapters_in_a_bases_own_files_are_not_loaded() -> None:
    """As in Phi-4-multimodal's."""
    facts = base_facts_of("phi-4-multimodal")
    assert facts.tensors
    wrapped = [
        each.model_copy(update={"name": each.name.replace("_proj.weight", "_proj.base_layer.weight")})
        for each in facts.tensors
    ]
    matrices = [
        TensorGroup(name=f"model.layers.*.mlp.down_proj.lora_{side}.{mode}.weight", shape=shape, dtype="BF16", count=32)
        for mode in ("vision", "speech")
        for side, shape in (("A", (256, 8192)), ("B", (3072, 256)))
    ]
    found = architecture(facts.model_copy(update={"tensors": (*wrapped, *matrices)}))
    plain = model_of("phi-4-multimodal")
    for tp in (1, 2):
        assert rank_weights(found, tp, 1, "bfloat16", NONE) == rank_weights(plain, tp, 1, "bfloat16", NONE)


def test_the_layers_of_a_merger_are_divided_by_either_name() -> None:
    model = model_of("qwen2-vl-7b")
    renamed = [
        each.model_copy(update={"name": each.name.replace("linear_fc1", "mlp.*").replace("linear_fc2", "mlp.*")})
        for each in model.tensors
    ]
    assert renamed != list(model.tensors)
    found = rank_weights(replace(model, tensors=tuple(renamed)), 4, 1, "bfloat16", NONE)
    assert found == rank_weights(model, 4, 1, "bfloat16", NONE)


def test_a_table_of_frames_is_longer_and_by_version_may_not_be() -> None:
    found = {name: rotary_table(model_of(name), "bfloat16") for name in ("qwen2-vl-7b", "qwen3-vl-8b", "gpt-oss-20b")}
    assert found["qwen2-vl-7b"] == Reserve(4 * 32768 * 128 * 2, 4 * 32768 * 128 * 2)
    assert found["qwen3-vl-8b"] == Reserve(262144 * 128 * 2, 4 * 262144 * 128 * 2)
    assert found["gpt-oss-20b"] == Reserve(131072 * 64 * 4, 131072 * 64 * 4)


def test_whole_experts_are_on_each_rank_where_experts_are_parallel() -> None:
    model = model_of("qwen3-235b-a22b-fp8")
    assert model.experts
    whole = replace(model, experts=replace(model.experts, whole=True))
    split = rank_weights(model, 4, 1, "bfloat16", model.quantization)
    assert rank_weights(whole, 4, 1, "bfloat16", model.quantization).experts == pytest.approx(split.experts, rel=1e-3)
    assert first_rejection(Split(model, 8, model.quantization))
    assert first_rejection(Split(whole, 8, model.quantization)) is None


@pytest.mark.parametrize(("name", "pages"), [("granite-4.0-h-1b", 3), ("kimi-linear-48b-a3b", 3), ("jamba-v0.1", 2)])
def test_prefill_leaves_a_state_more_in_families_that_pause_inside_a_batch(name: str, pages: int) -> None:
    assert kv_cache(model_of(name), 1, 1, "bfloat16", 2048).state_blocks == pages


def test_full_layers_of_kimi_linear_keep_a_latent() -> None:
    model = model_of("kimi-linear-48b-a3b")
    cache = kv_cache(model, 2, 1, "bfloat16", 2048)
    assert dict(cache.groups) == {LayerAttention("state"): 3, LayerAttention("full"): 1}
    assert cache.pool_block_bytes == 7 * 1024 * 576 * 2


def test_marlin_pads_experts_where_the_gpu_has_no_kernel_for_mxfp4() -> None:
    model = model_of("gpt-oss-120b")
    hopper = rank_weights(model, 4, 1, "bfloat16", model.quantization).experts
    ampere = rank_weights(model, 4, 1, "bfloat16", replace(model.quantization, marlin=True)).experts
    assert ampere / hopper == pytest.approx(3072 / 2880, rel=0.001)


def test_mxfp4_as_it_is_stored_takes_what_its_config_says() -> None:
    model = model_of("gpt-oss-20b")
    stored = (
        TensorGroup(
            name="model.layers.*.mlp.experts.gate_up_proj_blocks", shape=(32, 5760, 90, 16), dtype="U8", count=24
        ),
        TensorGroup(name="model.layers.*.mlp.experts.gate_up_proj_scales", shape=(32, 5760, 90), dtype="U8", count=24),
        TensorGroup(name="model.layers.*.mlp.experts.down_proj_blocks", shape=(32, 2880, 90, 16), dtype="U8", count=24),
        TensorGroup(name="model.layers.*.mlp.experts.down_proj_scales", shape=(32, 2880, 90), dtype="U8", count=24),
    )
    plain = tuple(group for group in model.tensors if ".experts." not in group.name or group.name.endswith("_bias"))
    from_file = replace(model, tensors=(*plain, *stored))
    for tp in (1, 4):
        predicted = rank_weights(model, tp, 1, "bfloat16", model.quantization)
        assert rank_weights(from_file, tp, 1, "bfloat16", model.quantization).experts == predicted.experts


def test_llama_cpp_keeps_a_window_and_a_batch_of_the_layers_that_have_one() -> None:
    model = model_of("gemma-3-1b")
    assert cache_bytes(model, 4, 8192) == 4 * (22 * 1024 + 4 * 8192) * 2 * 256 * 2
    assert cache_bytes(model, 4, 100) == 4 * 26 * 256 * 2 * 256 * 2


def test_llama_cpp_keeps_all_tokens_where_it_does_not_know_the_window() -> None:
    model = model_of("mistral-7b-v0.1")
    assert cache_bytes(model, 1, 8192) == 32 * 8192 * 2 * 8 * 128 * 2


def test_llama_cpp_keeps_a_latent_instead_of_keys_and_values() -> None:
    model = model_of("deepseek-v3")
    assert cache_bytes(model, 1, 4096) == 61 * 4096 * (512 + 64) * 2
    assert cache_bytes(replace(model, model_type="longcat_flash"), 1, 256) == 61 * 256 * 2 * 128 * model.head_size * 2


def test_llama_cpp_keeps_a_state_in_fp32_however_long_the_context() -> None:
    model = model_of("jamba-v0.1")
    state = model.state
    assert state
    states, full = ([each.kind for each in model.attention].count(kind) for kind in ("state", "full"))
    assert cache_bytes(model, 2, 4096) == 2 * (
        states * (state.convolution + state.recurrent) * 4
        + full * 4096 * 2 * model.key_value_heads * model.head_size * 2
    )


@pytest.mark.parametrize(
    ("gib", "product", "batch"),
    [
        (22, "NVIDIA-A10G", Batch(2048, 256)),
        (79.14, "NVIDIA-A100-SXM4-80GB", Batch(2048, 256)),
        (79.1, "NVIDIA-H100-80GB-HBM3", Batch(8192, 1024)),
        (178, "NVIDIA-B200", Batch(16384, 1024)),
    ],
)
def test_the_engines_own_batch_for_a_gpu_is_known(gib: float, product: str, batch: Batch) -> None:
    assert default_batch(int(gib * GIB), product) == batch


def test_the_vocabulary_is_padded_to_a_multiple_of_64() -> None:
    assert rank_weights(model_of("granite-3.1-8b"), 1, 1, "bfloat16", NONE).embedding == 49216 * 4096 * 2


def test_an_output_layer_that_is_stored_though_it_is_tied_is_not_held() -> None:
    model = model_of("llama-3.2-1b")
    stored = TensorGroup(name="lm_head.weight", shape=(128256, 2048), dtype="BF16", count=1)
    more = replace(model, tensors=(*model.tensors, stored))
    assert rank_weights(more, 1, 1, "bfloat16", NONE) == rank_weights(model, 1, 1, "bfloat16", NONE)


def test_kinds_of_almost_as_many_layers_are_padded_into_one_group_each() -> None:
    kinds = (*[LayerAttention("full")] * 13, *[LayerAttention("sliding", 128)] * 12)
    cache = kv_cache(replace(model_of("gpt-oss-20b"), layers=25, attention=kinds), 1, 1, "bfloat16", 2048)
    assert [count for _, count in cache.groups] == [1, 1]
    assert cache.pool_block_bytes == 13 * 16 * 8 * 2 * 64 * 2


def test_adapter_slots_take_their_rank_times_the_widths_of_every_linear_layer() -> None:
    model = model_of("llama-3.1-8b")
    each = 2 * 16 * 2
    widths = 32 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3)
    tables = 2 * (128256 + 4096)
    slots = AdapterSlots(2, 16)
    assert slot_bytes(model, Layout(1, 1, 1), slots, "bfloat16") == Reserve(each * widths, each * (widths + tables))
    halves = 32 * ((4096 + 2048) * 2 + (4096 + 512) * 2 + (4096 + 7168) * 2 + (7168 + 4096))
    assert slot_bytes(model, Layout(2, 1, 1), slots, "bfloat16").least == each * halves
    assert slot_bytes(model, Layout(1, 2, 1), slots, "bfloat16").least == each * widths // 2
    for_speculation = TensorGroup(name="+.layers.*.self_attn.o_proj.weight", shape=(4096, 4096), dtype="BF16", count=1)
    spare = replace(model, tensors=(*model.tensors, for_speculation))
    assert slot_bytes(spare, Layout(1, 1, 1), slots, "bfloat16").least == each * widths


def test_every_expert_has_slots_of_its_own() -> None:
    model = model_of("qwen3-30b-a3b")
    experts = 48 * 128 * 3 * (2048 + 768)
    attention = 48 * ((2048 + 4096) * 2 + (2048 + 512) * 2)
    assert slot_bytes(model, Layout(1, 1, 1), AdapterSlots(1, 8), "bfloat16").least == 8 * 2 * (experts + attention)


MTP = (
    TensorGroup(name="model.layers.+.input_layernorm.weight", shape=(4096,), dtype="BF16", count=1),
    TensorGroup(name="model.layers.+.eh_proj.weight", shape=(4096, 8192), dtype="BF16", count=1),
    TensorGroup(name="model.layers.+.mlp.down_proj.weight", shape=(4096, 14336), dtype="BF16", count=1),
    TensorGroup(name="model.layers.+.embed_tokens.weight", shape=(128256, 4096), dtype="BF16", count=1),
)


def test_a_checkpoints_own_draft_layers_are_divided_and_its_tables_may_be_shared() -> None:
    model = model_of("llama-3.1-8b")
    model = replace(model, tensors=(*model.tensors, *MTP))
    whole, half = (draft_bytes(model, tp, "bfloat16", NONE, Draft("deepseek_mtp", 1)) for tp in (1, 2))
    assert whole
    assert half
    own = (4096 + 4096 * 8192) * 2
    assert whole == Reserve(own + 4096 * 14336 * 2, own + (4096 * 14336 + 128256 * 4096) * 2)
    assert half.least == own + 4096 * 14336


def test_draft_heads_that_facts_do_not_have_are_a_layer_of_the_model() -> None:
    model = model_of("llama-3.1-8b")
    layer = 2 * (4096 * (4096 * 2 + 1024 * 2 + 14336 * 3) + 2 * 4096)
    assert draft_bytes(model, 1, "bfloat16", NONE, Draft("mtp", 1)) == Reserve(
        layer + 4096 * 4096 * 4, layer + 4096 * 4096 * 4
    )
    eagle = draft_bytes(model, 1, "bfloat16", NONE, Draft("eagle3", 3))
    assert eagle
    assert eagle.least == 2 * (2 * 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336 + 3 * 4096 * 4096)
    assert eagle.most - eagle.least == 128256 * 4096 * 2
    assert draft_bytes(model, 1, "bfloat16", NONE, Draft("ngram", 4)) is None


@pytest.mark.parametrize(("method", "layers"), [("mtp", 33), ("eagle", 33), ("ngram", 32), ("draft_model", 32)])
def test_a_draft_layer_keeps_a_cache_of_its_own(method: str, layers: int) -> None:
    model = with_draft_layers(model_of("llama-3.1-8b"), Draft(method, 1))
    cache = kv_cache(model, 1, 1, "bfloat16", 2048)
    assert cache.pool_block_bytes * cache.sequence_blocks(1600) == layers * 100 * 16 * 2 * 8 * 128 * 2
    assert Draft(method, 1).is_unknown == (method == "draft_model")
