"""Keys of artifacts and of inputs stay as they are: a key that changed would build every user's models anew."""

from ftm_jobs.contract.keys import (
    AdapterEngine,
    ClassifierTask,
    QuantizedBase,
    adapter_key,
    awq_key,
    gguf_key,
    merge_key,
    verify_key,
)

BASE = "sha256:" + "1" * 64
ADAPTERS = [("sha256:" + "2" * 64, 1.0), ("sha256:" + "3" * 64, 0.5)]


def test_the_key_of_a_merge() -> None:
    assert merge_key(BASE, ADAPTERS) == "merge-b9f163491727050ac3dd7f1bcdbb1c7f"
    assert (
        merge_key(BASE, ADAPTERS, QuantizedBase.NF4_ROUND_TRIP, 5_000_000_000)
        == "merge-3e43b05de6ac322eb86bc8fac44e3153"
    )
    assert merge_key(BASE, ADAPTERS, task=ClassifierTask.SEQUENCE) == "merge-9615677afeed1a44c9d0fd558bc8531c"


def test_the_key_of_an_awq_model() -> None:
    assert (
        awq_key("merge-1", 4, 64, False, "llm-compressor", "sha256:4", (1, 2)) == "awq-9e316cb29b9b5fee0a042ee42026d37a"
    )


def test_the_key_of_a_gguf_model() -> None:
    assert gguf_key("merge-1", "Q5_K_M", "sha256:5") == "gguf-3b2ff777f3d6d23439cf33e647dd67f0"


def test_the_key_of_a_verification() -> None:
    inputs = [("base", BASE, None), ("adapter", *ADAPTERS[1]), ("merged", "sha256:6", None)]
    assert verify_key(inputs, {"tokens": 1024, "maxDivergence": None}) == "verify-2895e93a9ce4a2b9311f156972c84531"


def test_the_key_of_an_adapter() -> None:
    assert adapter_key(ADAPTERS[0][0], BASE) == "adapter-6cbfe0ea32ca51839088c00616dbf41d"
    assert adapter_key(ADAPTERS[0][0], BASE, AdapterEngine.LLAMA_CPP) == "adapter-5fbaafddc4c42ea76cc1836645bb1c57"
