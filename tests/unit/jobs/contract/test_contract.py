"""Reports as a Kubernetes termination message carries them, keys, and manifests."""

import json
import re

import pytest

from ftm_jobs.contract.facts import AdapterFacts, BaseFacts, Facts
from ftm_jobs.contract.keys import ARTIFACT_KEY, AdapterEngine, adapter_key, awq_key, gguf_key, merge_key
from ftm_jobs.contract.manifest import Manifest, ManifestInput
from ftm_jobs.contract.report import TERMINATION_MESSAGE_BYTES, Report
from ftm_jobs.contract.steps import Outcome, Step

MODULES = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def report(message: str = "one sentence", adapters: int = 0) -> Report:
    base = BaseFacts(
        uri="s3://models/base",
        digest=f"sha256:{0:064x}",
        architecture="LlamaForCausalLM",
        model_type="llama",
        dtype="BF16",
        parameters=1,
        weight_bytes=2,
        layers=1,
        hidden_size=8,
        attention_heads=2,
        key_value_heads=1,
        head_size=4,
        vocabulary_size=32,
        max_position_embeddings=64,
        tied_embeddings=False,
    )
    found = tuple(
        AdapterFacts(
            uri=f"s3://a-bucket-of-the-team/adapters/support-{number}-v{number * 7919}",
            digest=f"sha256:{pow(7919, number + 40, 2**255 - 19):064x}",
            rank=16,
            alpha=32,
            scaling=2,
            target_modules=MODULES,
            layers_adapted=224,
            dtype="F32",
            weight_bytes=100_000_000 + number,
        )
        for number in range(adapters)
    )
    return Report(
        step=Step.INSPECT,
        outcome=Outcome.DONE,
        reason="Inspected",
        message=message,
        facts=Facts(base=base, adapters=found) if adapters else None,
    )


@pytest.mark.parametrize("adapters", [0, 1, 2, 8, 16])
def test_facts_of_up_to_sixteen_adapters_survive_a_termination_message(adapters: int) -> None:
    wanted = report(adapters=adapters)
    message = wanted.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    assert Report.model_validate_json(message) == wanted


@pytest.mark.parametrize("text", ["x" * 10_000, "…" * 10_000, '"\\' * 5_000, "\U0001f600" * 3_000])
@pytest.mark.parametrize("adapters", [0, 16])
def test_a_long_message_is_cut_and_nothing_else(text: str, adapters: int) -> None:
    wanted = report(text, adapters)
    message = wanted.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    read = Report.model_validate_json(message)
    assert read.facts == wanted.facts
    assert read.message.endswith("…")
    assert text.startswith(read.message[:-1])
    assert len(message) > TERMINATION_MESSAGE_BYTES / 2


NOTES = ("180 of 272 tensors have another type than Q5_K_M asks for", "the MLP was padded from 29568 to 29696")


def test_notes_survive_a_termination_message_that_has_room_for_them() -> None:
    wanted = report().model_copy(update={"notes": NOTES})
    assert Report.model_validate_json(wanted.termination_message()) == wanted


@pytest.mark.parametrize("adapters", [0, 16])
def test_notes_that_do_not_fit_are_left_out_before_the_message_is_cut(adapters: int) -> None:
    wanted = report("m" * 500, adapters).model_copy(update={"notes": (NOTES[0], *["n" * 200] * 40)})
    message = wanted.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    read = Report.model_validate_json(message)
    assert (read.message, read.facts) == (wanted.message, wanted.facts)
    assert 1 <= len(read.notes) < 40
    assert read.notes == wanted.notes[: len(read.notes)]


def test_a_report_without_notes_says_nothing_of_them() -> None:
    assert "notes" not in report().to_json()


KEYS = [
    merge_key("sha256:1", [("sha256:2", 1.0)]),
    gguf_key("merge-1", "Q4_K_M"),
    gguf_key("merge-2", "Q4_K_M"),
    gguf_key("merge-1", "Q8_0"),
    gguf_key("merge-1", "Q4_K_M", "sha256:3"),
    gguf_key("merge-1", "Q4_K_M", "sha256:4"),
    awq_key("merge-1", 4, 128, True, "autoawq", "sha256:3"),
    awq_key("merge-2", 4, 128, True, "autoawq", "sha256:3"),
    awq_key("merge-1", 8, 128, True, "autoawq", "sha256:3"),
    awq_key("merge-1", 4, 64, True, "autoawq", "sha256:3"),
    awq_key("merge-1", 4, 128, False, "autoawq", "sha256:3"),
    awq_key("merge-1", 4, 128, True, "llm-compressor", "sha256:3"),
    awq_key("merge-1", 4, 128, True, "autoawq", "sha256:4"),
    adapter_key("sha256:2", "sha256:1"),
    adapter_key("sha256:2", "sha256:3"),
    adapter_key("sha256:3", "sha256:1"),
    adapter_key("sha256:2", "sha256:1", AdapterEngine.LLAMA_CPP),
]


def test_whatever_a_step_is_asked_is_in_the_key() -> None:
    assert len(set(KEYS)) == len(KEYS)


def test_the_same_question_has_the_same_key() -> None:
    assert gguf_key("merge-1", "Q4_K_M") == "gguf-6984c2bffb86660d7c75bff9fe2ee97f"
    assert awq_key("merge-1", 4, 128, True, "autoawq", "sha256:3") == "awq-b3e94053ed2dc4d6dd5ce7e8620528f3"


def test_keys_are_found_whole_in_a_text() -> None:
    assert re.findall(ARTIFACT_KEY, " and ".join(KEYS)) == KEYS


def test_a_merge_s_manifest_says_nothing_of_quantization() -> None:
    manifest = Manifest(key=KEYS[0], step=Step.MERGE, recipe=1, inputs=(), files=())
    assert not {"quantization", "notes"} & manifest.to_json().keys()


def test_a_quantized_model_s_manifest_is_read_as_it_was_written() -> None:
    manifest = Manifest(
        key=KEYS[1],
        step=Step.QUANTIZE,
        recipe=1,
        inputs=(ManifestInput(role="merged", uri="s3://artifacts/merge-1", digest=f"sha256:{0:064x}"),),
        quantization={"method": "awq", "bits": 4, "groupSize": 64, "zeroPoint": True, "engine": "autoawq"},
        files=(),
        notes=NOTES,
    )
    read = Manifest.model_validate_json(json.dumps(manifest.to_json()))
    assert read == manifest
    assert read.quantization is not None
    assert read.quantization["zeroPoint"] is True
