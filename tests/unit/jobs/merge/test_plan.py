"""A base is planned under all its adapters: ties, sizes, conflicts, and the files that say so."""

import json
from typing import Any

import pytest

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Expert, Form, LowRank, Replace, RoundTrip
from ftm_jobs.adapters.dynamic_serving import kinds, objections
from ftm_jobs.adapters.match import match
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from ftm_jobs.checkpoint.output_layout import OutputLayout, OutputTensor
from ftm_jobs.contract.keys import ClassifierTask, QuantizedBase
from ftm_jobs.errors import InvalidInput
from ftm_jobs.merge.documents import Documents
from ftm_jobs.merge.plan import MergeChoices, plan
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, Q_PROJ, Shapes, header

PREFIX = "base_model.model."
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED: Shapes = {name: shape for name, shape in BASE_SHAPES.items() if name != HEAD}
Adapter = tuple[Shapes, dict[str, Any]]


def saved(*names: str, rows: int = 32) -> Shapes:
    return ADAPTER_SHAPES | {f"{PREFIX}{name}": ("F32", (rows, 8)) for name in names}


def planned(
    base: Shapes,
    *adapters: Adapter,
    nf4_base: bool = False,
    model_type: str = "llama",
    task: ClassifierTask | None = None,
) -> OutputLayout:
    tensors = BaseTensors("s3://models/base", model_type, HEAD not in base, [header(base)])
    found = []
    for number, (shapes, config) in enumerate(adapters):
        parsed = parse_adapter_config("adapter_config.json", ADAPTER_CONFIG | config)
        found.append(
            (
                f"adapter {number}",
                match(tensors, AppliedAdapter(number, f"adapter {number}", parsed, 1.0, task), header(shapes)),
            )
        )
    index = {"metadata": {"total_size": 0}, "weight_map": dict.fromkeys(base, "model.safetensors")}
    config = LLAMA_CONFIG | {"tie_word_embeddings": HEAD not in base}
    quantized_base = QuantizedBase.NF4_ROUND_TRIP if nf4_base else QuantizedBase.FULL_PRECISION
    return plan(tensors, Documents(config, index), found, MergeChoices(quantized_base, task=task))


def tensors(output: OutputLayout) -> dict[str, OutputTensor]:
    return {tensor.name: tensor for file in output.files for tensor in file.tensors}


def refusal(base: Shapes, *adapters: Adapter, task: ClassifierTask | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        planned(base, *adapters, task=task)
    return caught.value.message


def test_plain_lora_keeps_files_headers_and_documents() -> None:
    output = planned(BASE_SHAPES, (ADAPTER_SHAPES, {}))
    (file,) = output.files
    assert (file.base_file, file.header, output.documents) == ("model.safetensors", b"", {})
    assert [tensor.name for tensor in file.tensors if tensor.changes] == [f"{Q_PROJ}.weight"]


def test_a_part_of_a_tie_that_was_trained_alone_unties_it() -> None:
    output = planned(TIED, (saved(EMBEDDING), {"modules_to_save": ["embed_tokens"]}))
    embedding, head = tensors(output)[EMBEDDING], tensors(output)[HEAD]
    assert embedding.replaced
    assert (head.origin, head.changes, head.shape) == (embedding.origin, (), (32, 8))
    assert json.loads(output.documents["config.json"]) == LLAMA_CONFIG | {"tie_word_embeddings": False}
    index = json.loads(output.documents["model.safetensors.index.json"])
    assert index["weight_map"].keys() == {*TIED, HEAD}
    assert index["metadata"]["total_size"] == sum(tensor.size for tensor in tensors(output).values())
    head = tensors(planned(TIED, (saved(HEAD), {"modules_to_save": ["lm_head"]})))[HEAD]
    assert head.replaced


def test_saved_embeddings_change_both_of_a_tie_and_the_vocabulary_with_them() -> None:
    output = planned(TIED, (saved(EMBEDDING, HEAD, rows=40), {}))
    assert tensors(output).keys() == TIED.keys()
    (change,) = tensors(output)[EMBEDDING].changes
    assert isinstance(change, Replace)
    assert change.tensor.name == f"{PREFIX}{HEAD}"
    assert json.loads(output.documents["config.json"])["vocab_size"] == 40
    (file,) = output.files
    assert file.base_file is None
    size = int.from_bytes(file.header[:8], "little")
    assert (len(file.header), file.data_offset, size % 8) == (8 + size, 8 + size, 0)
    assert json.loads(file.header[8:])[EMBEDDING]["shape"] == [40, 8]


def test_one_side_of_an_untied_model_cannot_be_resized_alone() -> None:
    assert (
        refusal(BASE_SHAPES, (saved(EMBEDDING, rows=40), {}))
        == f'adapter 0 gives "{EMBEDDING}" 40 rows, but "{HEAD}" has 32: save the adapter with '
        "save_embedding_layers=True, so that it holds both"
    )


def test_an_embedding_may_have_more_rows_than_the_output_layer_and_both_grow_alike() -> None:
    base: Shapes = BASE_SHAPES | {EMBEDDING: ("BF16", (36, 8))}
    adapted: Shapes = {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": ("F32", (2, 36)),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": ("F32", (8, 2)),
    }
    assert planned(base, (adapted, {})).documents == {}
    grown: Shapes = {f"{PREFIX}{EMBEDDING}": ("F32", (44, 8)), f"{PREFIX}{HEAD}": ("F32", (40, 8))}
    assert json.loads(planned(base, (grown, {})).documents["config.json"])["vocab_size"] == 40
    grown[f"{PREFIX}{HEAD}"] = ("F32", (44, 8))
    assert "by different numbers of rows, which transformers cannot load again" in refusal(base, (grown, {}))


def test_a_tensor_that_is_adapted_under_two_names_is_refused() -> None:
    twice = ADAPTER_SHAPES | {
        name.replace("model.layers", "model.language_model.layers"): shape for name, shape in ADAPTER_SHAPES.items()
    }
    assert f'both adapt "{Q_PROJ}.weight": save the adapter again' in refusal(BASE_SHAPES, (twice, {}))


ROWS: Adapter = (
    ADAPTER_SHAPES | {f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta": ("F32", (2, 8))},
    {"trainable_token_indices": [3, 5]},
)
ADAPTED_EMBEDDING: Adapter = (
    {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": ("F32", (2, 32)),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": ("F32", (8, 2)),
    },
    {},
)


@pytest.mark.parametrize(
    ("adapters", "sentence"),
    [
        ([(saved(HEAD), {})] * 2, f'adapter 1 replaces "{HEAD}", which adapter 0 replaces too: merge only one'),
        ([ROWS, ROWS], f'adapter 1 replaces row 3 of "{EMBEDDING}", which adapter 0 replaces too'),
        ([ROWS, ADAPTED_EMBEDDING], f'adapter 0 trains single rows of "{EMBEDDING}", which is adapted in another way'),
        (
            [(saved(EMBEDDING), {"modules_to_save": ["embed_tokens"]}), ADAPTED_EMBEDDING],
            f'adapter 0 replaces "{EMBEDDING}", which is adapted in another way too',
        ),
        (
            [(saved(EMBEDDING, HEAD, rows=40), {}), ADAPTED_EMBEDDING],
            f'adapter 1 adapts "{EMBEDDING}" with 32 rows, but adapter 0 gives it 40: merge only one of the two',
        ),
        (
            [(saved(EMBEDDING, HEAD, rows=40), {}), (saved(EMBEDDING, HEAD, rows=36), {})],
            "which adapter 0 replaces too: merge only one of the two",
        ),
        (
            [(ROWS[0], {"trainable_token_indices": [3, 32]})],
            f'adapter 0 replaces row 32 of "{EMBEDDING}", which has 32: name the base with',
        ),
    ],
)
def test_adapters_that_contradict_each_other_are_refused_by_name(adapters: list[Adapter], sentence: str) -> None:
    assert sentence in refusal(BASE_SHAPES, *adapters)


def test_a_part_of_a_tie_that_was_trained_alone_is_adapted_in_no_other_way() -> None:
    trained: Adapter = (saved(EMBEDDING), {"modules_to_save": ["embed_tokens"]})
    assert f'adapter 0 replaces "{EMBEDDING}", which is adapted in another way' in refusal(
        TIED, trained, ADAPTED_EMBEDDING
    )
    both: Adapter = (trained[0] | ROWS[0], trained[1] | ROWS[1])
    assert f'adapter 0 trains single rows of "{EMBEDDING}", which is adapted in' in refusal(TIED, both)


def test_a_four_bit_base_comes_before_what_is_added_to_it_and_only_there() -> None:
    base: Shapes = BASE_SHAPES | {f"{Q_PROJ}.weight": ("BF16", (8, 64)), EMBEDDING: ("BF16", (32, 8))}
    shapes: Shapes = ADAPTER_SHAPES | ADAPTED_EMBEDDING[0] | {f"{PREFIX}{Q_PROJ}.lora_A.weight": ("F32", (2, 64))}
    found = tensors(planned(base, (shapes, {}), nf4_base=True))
    assert [type(change) for change in found[f"{Q_PROJ}.weight"].changes] == [RoundTrip, LowRank]
    assert [type(change) for change in found[EMBEDDING].changes] == [LowRank]


SCORE: Adapter = (
    ADAPTER_SHAPES | {f"{PREFIX}score.weight": ("F32", (3, 8))},
    {"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]},
)


def test_a_classifier_has_a_head_in_place_of_the_output_layer() -> None:
    output = planned(BASE_SHAPES, SCORE, task=ClassifierTask.SEQUENCE)
    assert tensors(output).keys() == BASE_SHAPES.keys() - {HEAD} | {"score.weight"}
    assert (tensors(output)["score.weight"].dtype, tensors(output)["score.weight"].shape) == ("BF16", (3, 8))
    config = json.loads(output.documents["config.json"])
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert json.loads(output.documents["model.safetensors.index.json"])["weight_map"].keys() == tensors(output).keys()
    of_head: Adapter = (
        {f"{PREFIX}lm_head.lora_A.weight": ("F32", (2, 8)), f"{PREFIX}lm_head.lora_B.weight": ("F32", (32, 2))},
        {},
    )
    for base in (BASE_SHAPES, TIED):
        assert "adapter 1 adapts the output layer of s3://models/base, which a classifier does not" in refusal(
            base, SCORE, of_head, task=ClassifierTask.SEQUENCE
        )
    assert "merge it all the same with ftm merge --task SEQ_CLS or TOKEN_CLS" in refusal(
        BASE_SHAPES, (SCORE[0], SCORE[1] | {"task_type": None})
    )


MLP = "model.layers.0.mlp.experts"
PARAMETERS = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "target_modules": []}
EXPERTS: Shapes = {
    f"{PREFIX}{MLP}.base_layer.lora_A.weight": ("F32", (6, 8)),
    f"{PREFIX}{MLP}.base_layer.lora_B.weight": ("F32", (20, 6)),
    f"{PREFIX}{MLP}.lora_A.weight": ("F32", (6, 10)),
    f"{PREFIX}{MLP}.lora_B.weight": ("F32", (8, 6)),
}


def unfused(gate: str, up: str, down: str, block: str = "mlp") -> Shapes:
    parts = {gate: (10, 8), up: (10, 8), down: (8, 10)}
    return BASE_SHAPES | {
        f"model.layers.0.{block}.experts.{expert}.{part}.weight": ("BF16", shape)
        for expert in range(3)
        for part, shape in parts.items()
    }


def test_fused_experts_in_memory_are_found_on_disk_fused_or_not() -> None:
    for model_type, base, up, down in (
        ("qwen3_moe", unfused("gate_proj", "up_proj", "down_proj"), f"{MLP}.1.up_proj", f"{MLP}.1.down_proj"),
        (
            "mixtral",
            unfused("w1", "w3", "w2", "block_sparse_moe"),
            "model.layers.0.block_sparse_moe.experts.1.w3",
            "model.layers.0.block_sparse_moe.experts.1.w2",
        ),
    ):
        found = tensors(planned(base, (EXPERTS, PARAMETERS), model_type=model_type))
        for name, module, expert in (
            (up, f"{MLP}.gate_up_proj", Expert(3, 1, 10)),
            (down, f"{MLP}.down_proj", Expert(3, 1)),
        ):
            (change,) = found[f"{name}.weight"].changes
            assert isinstance(change, LowRank)
            assert (change.module, change.expert, change.rounded) == (module, expert, True)
    fused: Shapes = BASE_SHAPES | {
        f"{MLP}.gate_up_proj": ("BF16", (3, 8, 20)),
        f"{MLP}.down_proj": ("BF16", (3, 8, 10)),
    }
    found = tensors(planned(fused, (EXPERTS, PARAMETERS)))
    forms = [found[f"{MLP}.{name}"].changes[0] for name in ("gate_up_proj", "down_proj")]
    assert [change.form for change in forms if isinstance(change, LowRank)] == [Form.TRANSPOSED, Form.LINEAR]
    narrow = EXPERTS | {f"{PREFIX}{MLP}.lora_B.weight": ("F32", (8, 4))}
    assert "of shape (8, 4) needs (8, 6) for 3 experts of rank 2" in refusal(fused, (narrow, PARAMETERS))
    assert f'adapts "{MLP}.gate_up_proj", which s3://models/base does not have' in refusal(
        BASE_SHAPES, (EXPERTS, PARAMETERS)
    )


@pytest.mark.parametrize(
    ("adapter", "scale", "wanted", "why"),
    [
        ((ADAPTER_SHAPES, {}), 1.0, ("LoRA",), ()),
        ((ADAPTER_SHAPES, {}), 0.5, ("LoRA",), ("scale 0.5 applies only to a merge",)),
        (ROWS, 1.0, ("LoRA", "Tokens"), ("vLLM takes no trainable_token_indices",)),
        (ADAPTED_EMBEDDING, 1.0, ("Embedding", "LoRA"), ()),
        (
            (saved(HEAD), {"modules_to_save": ["lm_head"]}),
            1.0,
            ("LoRA", "Modules"),
            ("vLLM takes no modules_to_save: lm_head",),
        ),
        ((saved(HEAD), {}), 1.0, ("LoRA", "Modules"), (f'vLLM does not take the adapter\'s own "{HEAD}"',)),
        (
            (ADAPTER_SHAPES | {f"{PREFIX}{Q_PROJ}.lora_magnitude_vector": ("F32", (8,))}, {"use_dora": True}),
            1.0,
            ("DoRA",),
            ("vLLM has no DoRA",),
        ),
        (
            ({name.replace(PREFIX, f"{PREFIX}_orig_mod."): shape for name, shape in ADAPTER_SHAPES.items()}, {}),
            1.0,
            ("LoRA",),
            (f'vLLM does not know the name "{PREFIX}_orig_mod.{Q_PROJ}.lora_A.weight"',),
        ),
        (
            ({name.replace("model.layers", "layers"): shape for name, shape in ADAPTER_SHAPES.items()}, {}),
            1.0,
            ("LoRA",),
            (f'vLLM does not know the name "{PREFIX}{Q_PROJ.removeprefix("model.")}.lora_A.weight"',),
        ),
        (
            (ADAPTER_SHAPES, {"r": 16, "rank_pattern": {"q_proj": 2, "v_proj": 1024}}),
            1.0,
            ("LoRA",),
            ("rank 1024 exceeds 512, vLLM's largest",),
        ),
    ],
)
def test_inspect_says_what_an_adapter_is_and_why_vllm_cannot_serve_it_unmerged(
    adapter: Adapter, scale: float, wanted: tuple[str, ...], why: tuple[str, ...]
) -> None:
    config = parse_adapter_config("adapter_config.json", ADAPTER_CONFIG | adapter[1])
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    base = BaseTensors("s3://models/base", "llama", False, [header(BASE_SHAPES)], config=llama)
    updates = match(base, AppliedAdapter(0, "adapter", config, 1.0), header(adapter[0]))
    assert kinds(updates) == wanted
    assert objections(config, updates, scale, base.names) == why


VISION = "model.visual.blocks.0.attn.proj"


@pytest.mark.parametrize(
    ("base", "adapter", "why"),
    [
        (
            BASE_SHAPES | {f"{MLP}.gate_up_proj": ("BF16", (3, 8, 20)), f"{MLP}.down_proj": ("BF16", (3, 8, 10))},
            (EXPERTS, PARAMETERS),
            f'most of vLLM\'s classes ignore LoRA on the parameters of experts ("{PREFIX}{MLP}.lora_A.weight")',
        ),
        (
            BASE_SHAPES | {f"{VISION}.weight": ("F32", (8, 8))},
            ({name.replace(Q_PROJ, VISION): shape for name, shape in ADAPTER_SHAPES.items()}, {}),
            f'vLLM adapts the language model alone, and ignores "{PREFIX}{VISION}.lora_A.weight"',
        ),
    ],
    ids=["experts", "vision tower"],
)
def test_what_vllm_would_ignore_in_silence_is_an_objection(base: Shapes, adapter: Adapter, why: str) -> None:
    config = parse_adapter_config("adapter_config.json", ADAPTER_CONFIG | adapter[1])
    tensors = BaseTensors("s3://models/base", "llama", False, [header(base)])
    updates = match(tensors, AppliedAdapter(0, "adapter", config, 1.0), header(adapter[0]))
    assert why in objections(config, updates, 1.0, tensors.names)
