"""Reports as a Kubernetes termination message carries them."""

import pytest

from ftm_jobs.contract import TERMINATION_MESSAGE_BYTES, AdapterFacts, BaseFacts, Facts, Outcome, Report, Step

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
