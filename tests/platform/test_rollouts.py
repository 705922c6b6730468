"""Rollouts by a real gateway: Traefik leads to a real vLLM, in its build for CPUs, and divides requests in a Canary.

Each tenant's adapter was told another answer to the same question, so that an answer tells which version gave it. The
tests run in order, and each first serves what it needs.
"""

from typing import Any

import pytest

from tests.assets.tenants import TENANTS
from tests.cluster.progress import say
from tests.platform.platform import NAME, Platform
from tests.platform.traffic import asked_all_the_time, shares

pytestmark = pytest.mark.timeout(3000)
FACTS = {tenant.name: tenant.fact for tenant in TENANTS}
CHECKED = "Checked"
STEPS = [{"weight": 10}, {"weight": 50}]


def canary(*steps: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"strategy": "Canary", "canary": {"steps": list(steps), **more}}


def test_1_a_real_gateway_leads_to_the_model(platform: Platform) -> None:
    platform.serve("north")
    route = platform.kubectl.get("httproute", NAME)
    (parent,) = route["status"]["parents"]
    assert parent["controllerName"] == "traefik.io/gateway-controller"
    assert {each["type"]: each["status"] for each in parent["conditions"]}["Accepted"] == "True"
    assert FACTS["north"].in_answer(platform.ask())


def test_2_a_canary_gets_the_share_of_each_step_and_no_request_fails(platform: Platform) -> None:
    platform.keep("north")
    with asked_all_the_time(platform.url, NAME) as traffic:
        platform.apply("south", served=CHECKED, **canary(*STEPS))
        platform.await_step(0)
        tenth = traffic.next(200)
        say(f"of 200 requests at weight 10: {shares(tenth)}")
        platform.ftm("promote")
        platform.await_step(1)
        half = traffic.next(60)
        say(f"of 60 requests at weight 50: {shares(half)}")
        weights = {each["state"]: each.get("weight") for each in platform.versions()}
    assert (weights["Serving"], weights["Canary"]) == (50, 50)
    assert 0.05 <= shares(tenth)["south"] <= 0.15
    assert 0.4 <= shares(half)["south"] <= 0.6
    assert not traffic.failures
