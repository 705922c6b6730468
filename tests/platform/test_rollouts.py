"""Rollouts by a real gateway: Traefik leads to a real vLLM, in its build for CPUs, and divides requests in a Canary.

Each tenant's adapter was told another answer to the same question, so that an answer tells which version gave it. The
tests run in order, and each first serves what it needs.
"""

import time
from http import HTTPStatus
from typing import Any

import pytest

from ftm_operator.resources.serving.serving_labels import SERVED_CHECK
from tests.assets.tenants import TENANTS
from tests.cluster.progress import say
from tests.e2e.chat_templates import OTHER_TEMPLATE, refusing
from tests.platform.platform import NAME, SERVING, Platform
from tests.platform.traffic import asked_all_the_time, shares

pytestmark = pytest.mark.timeout(3000)
FACTS = {tenant.name: tenant.fact for tenant in TENANTS}
CHECKED = "Checked"
STEPS = [{"weight": 10}, {"weight": 50}]
OLD, NEW = "north", "south"


def canary(*steps: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"strategy": "Canary", "canary": {"steps": list(steps), **more}}


def with_template(template: str) -> dict[str, Any]:
    return {"extraArgs": [*SERVING["extraArgs"], "--chat-template", template]}


def test_1_a_real_gateway_leads_to_the_model(platform: Platform) -> None:
    platform.serve(OLD)
    route = platform.kubectl.get("httproute", NAME)
    (parent,) = route["status"]["parents"]
    assert parent["controllerName"] == "traefik.io/gateway-controller"
    assert {each["type"]: each["status"] for each in parent["conditions"]}["Accepted"] == "True"
    assert FACTS[OLD].in_answer(platform.ask())


def test_2_a_canary_gets_the_share_of_each_step_then_all_requests_and_none_fails(platform: Platform) -> None:
    platform.keep(OLD)
    with asked_all_the_time(platform.url, NAME) as traffic:
        platform.apply(NEW, served=CHECKED, **canary(*STEPS))
        platform.await_step(0)
        tenth = traffic.next(200)
        say(f"of 200 requests at weight 10: {shares(tenth)}")
        platform.ftm("promote")
        platform.await_step(1)
        half = traffic.next(60)
        say(f"of 60 requests at weight 50: {shares(half)}")
        weights = {each["state"]: each.get("weight") for each in platform.versions()}
        platform.ftm("promote")
        platform.await_ready()
        last = traffic.next(40)
    assert (weights["Serving"], weights["Canary"]) == (50, 50)
    assert 0.05 <= shares(tenth)[NEW] <= 0.15
    assert 0.4 <= shares(half)[NEW] <= 0.6
    assert shares(last)[NEW] == 1
    assert not traffic.failures


def test_3_a_rollback_serves_the_version_before_and_builds_nothing(platform: Platform) -> None:
    if not platform.answers(NEW):
        platform.serve(OLD)
        platform.serve(NEW)
    jobs = {each["metadata"]["uid"] for each in platform.kubectl.list("jobs")}
    with asked_all_the_time(platform.url, NAME) as traffic:
        began = time.monotonic()
        platform.ftm("rollback")
        platform.await_ready()
        say(f"the version before serves again after {time.monotonic() - began:.0f} s")
        answered = traffic.next(20)
    assert shares(answered)[OLD] == 1
    assert not traffic.failures
    assert {each["metadata"]["uid"] for each in platform.kubectl.list("jobs")} <= jobs
    platform.ftm("promote")
    platform.apply(NEW)
    platform.story.eventually("what the spec means answers again", lambda: platform.answers(NEW))
    platform.await_ready()


def test_4_a_canary_that_is_not_what_was_verified_gets_no_request(platform: Platform) -> None:
    platform.keep(NEW)
    with asked_all_the_time(platform.url, NAME) as traffic:
        began = time.monotonic()
        platform.apply(NEW, served=CHECKED, **canary(*STEPS), **with_template(OTHER_TEMPLATE))
        cause = platform.await_rolled_back()
        say(f"rolled back {time.monotonic() - began:.0f} s after it was applied: {cause}")
    assert "it has another chat template" in cause
    assert shares(traffic.replies)[NEW] == 1
    assert not traffic.failures


def test_5_a_canary_that_was_verified_and_refuses_what_people_ask_is_rolled_back(platform: Platform) -> None:
    """Its template writes every conversation of the verification as it should, and refuses those of this traffic."""
    platform.keep(NEW)
    analysis = {"prometheus": platform.prometheus, "intervalSeconds": 5}
    with asked_all_the_time(platform.url, NAME) as traffic:
        template = with_template(refusing(platform.story.stack.assets.base))
        platform.apply(NEW, served=CHECKED, **canary({"weight": 50}, analysis=analysis), **template)
        platform.await_step(0)
        (pod,) = platform.kubectl.list("pods", "-l", "ftm.dev/step=canary")
        ready = {each["name"]: each["ready"] for each in pod["status"]["initContainerStatuses"]}
        assert ready[SERVED_CHECK], "the engine is what was verified"
        began = time.monotonic()
        cause = platform.await_rolled_back()
        say(f"rolled back {time.monotonic() - began:.0f} s after its first request: {cause}")
        refused = len(traffic.failures)
        answered = traffic.next(40)
    assert "requests were refused with 4xx" in cause
    assert {each.status for each in traffic.failures} == {HTTPStatus.BAD_REQUEST}
    assert len(traffic.failures) == refused
    assert shares(answered)[NEW] == 1
