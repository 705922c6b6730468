"""Engines on a real node are held against what was verified: one that says something else gets no requests.

The version before it goes on answering meanwhile, which is asked all the time.
"""

from typing import Any

import pytest

from tests.cluster.progress import say
from tests.cluster.service import reached
from tests.e2e.chapters import chapter
from tests.e2e.story import Story
from tests.served.asking import asked_all_the_time
from tests.served.models import FACT, SERVING, vllm_model
from tests.unit.operator.kstatus import violations

pytestmark = pytest.mark.timeout(3000)
PROVEN = "a vLLM that was held against what was verified"
NAME = "proven"
OTHER_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }} {% endfor %}"
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
    with asked_all_the_time(reached(story.kubectl, name), name, FACT) as asked:
        story.apply(model)
        failed = story.await_phase(name, "Failed")
    assert not violations(failed)
    stalled, condition = story.condition(name, "Stalled"), story.condition(name, "ServedVerified")
    say(f"{condition['message']}; {asked.right} right answers meanwhile")
    assert (stalled["reason"], condition["status"]) == ("ServedDiffers", "False"), (stalled, condition)
    assert cause in condition["message"]
    assert (asked.wrong, asked.failures) == ([], [])
    assert asked.right


@chapter(leaves={PROVEN})
def test_1_a_pod_is_ready_once_its_engine_is_what_was_verified(story: Story) -> None:
    becomes_ready(story, vllm_model(NAME))


@chapter(needs={PROVEN})
def test_2_a_version_with_another_template_is_caught_and_the_one_before_goes_on(story: Story) -> None:
    wrong = vllm_model(NAME, extraArgs=[*SERVING["extraArgs"], "--chat-template", OTHER_TEMPLATE])
    is_caught(story, wrong, "it has another chat template")
    story.kubectl("delete", "finetunedmodel", NAME, "--wait")
