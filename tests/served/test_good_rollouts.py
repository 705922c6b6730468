"""Twenty rollouts of sound engines, of both kinds and with other flags each time, of which none is a false alarm."""

from typing import Any

import pytest

from tests.cluster.progress import say
from tests.e2e.story import Story
from tests.served.models import SERVING, llama_cpp_model, vllm_model

pytestmark = pytest.mark.timeout(3000)
VLLM: list[dict[str, Any]] = [
    {},
    {"maxModelLen": 512},
    {"concurrency": 2},
    {"dtype": "float16"},
    {"dtype": "float32"},
    {"extraArgs": [*SERVING["extraArgs"], "--no-enable-prefix-caching"]},
    {"extraArgs": [*SERVING["extraArgs"], "--max-num-batched-tokens", "512"]},
    {"env": [*SERVING["env"], {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]},
]
TYPES = ("Q8_0", "Q4_K_M", "F16")
LLAMA_CPP: list[dict[str, Any]] = [
    {},
    {"concurrency": 1},
    {"extraArgs": ["--flash-attn", "off"]},
    {"extraArgs": ["--batch-size", "32", "--ubatch-size", "16"]},
]


def rolled_out(story: Story, model: dict[str, Any]) -> str:
    """Applies a version and returns the figures of its engine."""
    name = model["metadata"]["name"]
    story.apply(model)
    story.await_phase(name, "Ready", "Failed")
    condition = story.condition(name, "ServedVerified")
    assert (condition["status"], condition["reason"]) == ("True", "ServedAsVerified"), (condition, model)
    said: str = condition["message"].partition(";")[0]
    return said


def test_twenty_good_rollouts_raise_no_false_alarm(story: Story) -> None:
    by_vllm = [("vLLM", vllm_model("good", **serving)) for serving in VLLM]
    by_llama_cpp = [(kind, llama_cpp_model("good-gguf", kind, **each)) for kind in TYPES for each in LLAMA_CPP]
    for number, (kind, model) in enumerate([*by_vllm, *by_llama_cpp], 1):
        say(f"{number} of {len(by_vllm) + len(by_llama_cpp)}: {kind}: {rolled_out(story, model)}")
        if number == len(by_vllm):
            story.kubectl("delete", "finetunedmodel", "good", "--wait")
    assert len(by_vllm) + len(by_llama_cpp) == 20
