"""A plan chooses tensor-parallel sizes, and refuses some."""

from typing import Any

import pytest

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.input_hashes import inspection_input_hash, merged_key
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.quantization import NONE
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.tensor_parallel import first_rejection, split_of, valid_sizes
from tests.unit.operator.objects import base_facts, facts, resource

LLAMA_3_8B = base_facts(
    attention_heads=32, key_value_heads=8, vocabulary_size=128256, intermediate_size=14336, weight_bytes=16_060_522_496
)


def model(**spec: Any) -> FineTunedModel:
    return FineTunedModel.model_validate(resource(**spec))


def planned(**serving: object) -> Plan | Rejection:
    found = plan("support-bot", model(serving=serving).spec, facts())
    return found if isinstance(found, Rejection) else found.plan


@pytest.mark.parametrize("serving", [{}, {"device": "CPU"}])
@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        ({"attention_heads": None, "key_value_heads": None, "head_size": None}, "num_attention_heads"),
        ({"vocabulary_size": None}, "vocab_size"),
        ({"layers": None}, "num_hidden_layers"),
    ],
)
def test_a_model_whose_config_lacks_what_sizing_needs_is_refused_by_the_fields_name(
    lacking: dict[str, None], name: str, serving: dict[str, str]
) -> None:
    assert plan("support-bot", model(serving=serving).spec, facts(**lacking)) == Rejection(
        "IncompleteConfig",
        f"config.json of s3://models/base has no positive number as {name}, which sizing needs and merging does not: "
        "copy it from the model's page if it is there",
    )


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        (
            {"architecture": "T5ForConditionalGeneration", "config": {"is_encoder_decoder": "true"}},
            "EncoderDecoder",
            "T5ForConditionalGeneration has an encoder and a decoder, which are not served here",
        ),
        (
            {"architecture": "BertForMaskedLM"},
            "NoTextWritten",
            "BertForMaskedLM does not write text, so it is not served here",
        ),
    ],
)
def test_a_model_that_no_engine_here_serves_is_refused_and_told_what_merges_it(
    changes: dict[str, Any], rule: str, reason: str
) -> None:
    instead = "ftm merge makes the merged model, for another server"
    assert plan("support-bot", model().spec, facts(**changes)) == Rejection(rule, f"{reason}; {instead}")


def test_a_config_that_names_no_context_has_vllms_limit() -> None:
    found = plan("support-bot", model().spec, facts(max_position_embeddings=0))
    assert isinstance(found, Planned)
    assert found.plan.max_model_len == 2048


def test_by_default_the_models_own_dtype_and_context_on_one_gpu() -> None:
    found = planned()
    assert isinstance(found, Plan)
    assert (found.dtype, found.max_model_len, found.tensor_parallel_size, found.gpus) == ("bfloat16", 8192, 1, 1)
    assert found.served_model_name == "support-bot"


def test_what_the_spec_says_is_taken_and_said() -> None:
    found = planned(dtype="float32", maxModelLen=512, tensorParallelSize=3, servedModelName="bot")
    assert isinstance(found, Plan)
    assert (found.dtype, found.max_model_len, found.gpus, found.served_model_name) == ("float32", 512, 3, "bot")
    assert "context 512 tokens: from spec.serving.maxModelLen" in found.reasons


@pytest.mark.parametrize(
    ("changes", "size", "rule", "reason"),
    [
        ({}, 2, "AttentionHeads", "9 attention heads do not divide by 2"),
        (
            {"attention_heads": 30, "key_value_heads": 5},
            2,
            "KeyValueHeads",
            "5 key-value heads neither divide by 2 nor into it",
        ),
        (
            {"attention_heads": 12, "key_value_heads": 3, "vocabulary_size": 32000},
            3,
            "PaddedVocabulary",
            "vocabulary 32000, padded to 32000, does not divide by 3",
        ),
        (
            {"attention_heads": 8, "key_value_heads": 8, "intermediate_size": 1537},
            2,
            "MLPWidth",
            "MLP width 1537 does not divide by 2",
        ),
    ],
)
def test_a_size_that_the_engine_would_refuse_is_refused(
    changes: dict[str, int], size: int, rule: str, reason: str
) -> None:
    split = split_of(architecture(base_facts(**changes)), size, NONE)
    assert first_rejection(split) == Rejection(rule, reason)


def test_key_value_heads_may_be_replicated() -> None:
    assert valid_sizes(architecture(LLAMA_3_8B)) == [1, 2, 4, 8, 16]
    replicated = base_facts(attention_heads=32, key_value_heads=1, intermediate_size=None)
    assert valid_sizes(architecture(replicated)) == [1, 2, 4, 8, 16]


def test_a_context_beyond_the_models_limit_is_refused_with_the_limit() -> None:
    found = planned(maxModelLen=9000)
    assert found == Rejection(
        "ContextLength",
        "spec.serving.maxModelLen 9000 exceeds the model's limit of 8192 tokens; ask for at most that",
    )


def test_an_inspection_depends_on_sources_and_refresh_alone() -> None:
    key = inspection_input_hash(model().spec, None)
    assert inspection_input_hash(model(serving={"replicas": 5}).spec, None) == key
    assert inspection_input_hash(model(artifacts={"uri": "s3://other/place"}).spec, None) == key
    assert inspection_input_hash(model(base={"uri": "s3://models/other"}).spec, None) != key
    assert inspection_input_hash(model().spec, "now") != key


def test_a_merge_depends_on_digests_order_and_scales_alone() -> None:
    scaled = [{"name": "support", "uri": "s3://models/adapters/support", "scale": 0.5}]
    key = merged_key(model().spec, facts())
    assert merged_key(model(serving={"replicas": 5}).spec, facts(uri="hf://mirror/base@1")) == key
    assert merged_key(model(adapters=scaled).spec, facts()) != key
    assert merged_key(model().spec, facts(digest="sha256:other")) != key
