"""Engines on a real node are held against what was verified: one that says something else gets no requests.

The version before it goes on answering meanwhile, which is asked all the time.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.steps import Step
from ftm_operator.local import steps as local
from ftm_operator.resources.serving.engine import MODEL_VOLUME
from tests.assets.tenants import prepare
from tests.cache import cache
from tests.cluster.progress import say
from tests.cluster.service import reached
from tests.e2e.asking import asked_all_the_time, chat_answer
from tests.e2e.chapters import chapter
from tests.e2e.chat_templates import OTHER_TEMPLATE
from tests.e2e.story import Story
from tests.served.models import FACT, SERVING, llama_cpp_model, sources, vllm_model
from tests.served.wrong_weights import loud
from tests.servers.seaweedfs import MODELS
from tests.unit.operator.kstatus import violations

pytestmark = pytest.mark.timeout(3000)
PROVEN = "a vLLM that was held against what was verified"
LLAMA_CPP_PROVEN = "a llama-server that was held against what was verified"
PAUSE_SECONDS = 0.5
"""Leaves the processor to the engine that starts."""
NAME, LLAMA_CPP, LOUD = "proven", "proven-gguf", "loud"
END_ENGINE = "import os, signal; os.kill(1, signal.SIGTERM)"
FIGURES = ("that rounding explains", "of what the adapters changed", "chat template", "expected texts")


def becomes_ready(story: Story, model: dict[str, Any]) -> None:
    """Applies a model, and waits until it is Ready with the figures of its engine."""
    name = model["metadata"]["name"]
    story.apply(model)
    ready = story.await_phase(name, "Ready", "Failed")
    assert not violations(ready)
    condition = story.condition(name, "ServedVerified")
    say(condition["message"])
    assert (condition["status"], condition["reason"]) == ("True", "ServedAsVerified"), condition
    for figure in FIGURES:
        assert figure in condition["message"]


def is_caught(story: Story, model: dict[str, Any], cause: str) -> None:
    """Applies a version that serves something else, and asks the one before it until it is caught."""
    name = model["metadata"]["name"]
    url = f"http://{reached(story.kubectl, name)}"
    with asked_all_the_time(lambda: chat_answer(url, name, FACT.question), PAUSE_SECONDS) as asked:
        story.apply(model)
        failed = story.await_phase(name, "Failed")
    assert not violations(failed)
    stalled, condition = story.condition(name, "Stalled"), story.condition(name, "ServedVerified")
    say(f"{condition['message']}; {len(asked.answers)} answers meanwhile")
    assert (stalled["reason"], condition["status"]) == ("ServedDiffers", "False"), (stalled, condition)
    assert cause in condition["message"]
    assert asked.failures == []
    assert asked.answers
    assert all(FACT.in_answer(each) for each in asked.answers), asked.answers


@chapter(leaves={PROVEN})
def test_1_a_pod_is_ready_once_its_engine_is_what_was_verified(story: Story) -> None:
    becomes_ready(story, vllm_model(NAME))


@chapter(needs={PROVEN})
def test_2_a_version_with_another_template_is_caught_and_the_one_before_goes_on(story: Story) -> None:
    wrong = vllm_model(NAME, extraArgs=[*SERVING["extraArgs"], "--chat-template", OTHER_TEMPLATE])
    is_caught(story, wrong, "it has another chat template")
    story.apply(vllm_model(NAME))
    story.await_phase(NAME, "Ready")


@chapter(needs={PROVEN})
def test_3_another_adapter_in_the_place_of_the_one_that_was_verified_is_caught(story: Story, tmp_path: Path) -> None:
    """Somebody with rights on the node changes the weights after the fetch proved them, and the engine starts again."""
    adapter = prepare(story.stack.assets)["south"]
    base = story.stack.assets.base
    local.run_command(
        Step.MERGE, ["--base", base.as_uri(), "--adapter", adapter.as_uri(), "--out", (tmp_path / "other").as_uri()]
    )
    pods = ("pods", "-l", f"ftm.dev/name={NAME},ftm.dev/step=serve")
    story.eventually("the wrong version's Pod is gone", lambda: len(story.kubectl.list(*pods)) == 1)
    (pod,) = story.kubectl.list(*pods)
    volumes = cache("node", "kubelet", "pods", pod["metadata"]["uid"], "volumes", "kubernetes.io~empty-dir")
    shutil.copyfile(tmp_path / "other" / "model.safetensors", volumes / MODEL_VOLUME["name"] / "model.safetensors")
    story.kubectl("exec", pod["metadata"]["name"], "-c", "vllm", "--", "python3", "-c", END_ENGINE)

    def caught() -> dict[str, Any] | None:
        condition = story.condition(NAME, "ServedVerified")
        return condition if condition["status"] == "False" else None

    condition = story.eventually("the engine is held against what was verified again", caught)
    say(condition["message"])
    assert condition["reason"] == "ServedDiffers"
    assert "the engine computes another model" in condition["message"]
    assert f'lacks "{FACT.expected}"' in condition["message"]
    story.eventually("the Pod gets no requests", lambda: not endpoints(story, NAME))
    story.kubectl("delete", "finetunedmodel", NAME, "--wait")


@chapter()
def test_4_float16_for_a_model_that_overflows_in_it_is_caught(story: Story, tmp_path: Path) -> None:
    made = loud(story.stack.assets, tmp_path)
    for prefix, folder in (("base/loud", made.base), ("adapters/loud", made.adapter)):
        story.stack.s3.upload(MODELS, prefix, folder)
    becomes_ready(story, vllm_model(LOUD, sources=sources("loud", "loud")))
    is_caught(story, vllm_model(LOUD, sources=sources("loud", "loud"), dtype="float16"), "values overflow")
    story.kubectl("delete", "finetunedmodel", LOUD, "--wait")


@chapter(leaves={LLAMA_CPP_PROVEN})
def test_5_a_llama_server_is_held_against_what_was_verified_too(story: Story) -> None:
    becomes_ready(story, llama_cpp_model(LLAMA_CPP))


@chapter(needs={LLAMA_CPP_PROVEN})
def test_6_a_llama_server_with_another_template_is_caught(story: Story) -> None:
    wrong = llama_cpp_model(LLAMA_CPP, extraArgs=["--chat-template", OTHER_TEMPLATE])
    is_caught(story, wrong, "it has another chat template")
    story.kubectl("delete", "finetunedmodel", LLAMA_CPP, "--wait")


def endpoints(story: Story, name: str) -> list[str]:
    """Returns the addresses at which a Service's Pods take requests."""
    slices = story.kubectl.list("endpointslices", "-l", f"kubernetes.io/service-name={name}")
    return [
        address
        for each in slices
        for endpoint in each.get("endpoints") or []
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]
