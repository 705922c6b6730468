"""KEDA takes the last replica of a model that nobody asks, and starts one for whom the gateway had to refuse.

The engine is a real vLLM, whose load a real Prometheus reads; nothing holds requests meanwhile, so callers ask again.
"""

import time
from http import HTTPStatus
from typing import Any

import httpx2
import pytest

from tests.assets.tenants import TENANTS
from tests.cluster.progress import say
from tests.platform.keda import Keda
from tests.platform.platform import NAME, Platform
from tests.platform.traffic import ask

pytestmark = pytest.mark.timeout(3000)
TENANT = "south"
FACT = next(tenant.fact for tenant in TENANTS if tenant.name == TENANT)
REFUSED = 'sum(increase(traefik_entrypoint_requests_total{entrypoint="web",code="503"}[30s]))'
COOLDOWN_SECONDS = 30


def autoscaling(prometheus: str) -> dict[str, Any]:
    wakes = {"serverAddress": prometheus, "query": REFUSED, "threshold": "1"}
    return {
        "minReplicas": 0,
        "maxReplicas": 1,
        "cooldownSeconds": COOLDOWN_SECONDS,
        "prometheus": prometheus,
        "triggers": [{"type": "prometheus", "metadata": wakes}],
    }


def replicas(platform: Platform) -> int:
    deployment = platform.kubectl.get("deployment", NAME)
    found: int = deployment["spec"]["replicas"]
    return found


def await_none(platform: Platform) -> None:
    began = time.monotonic()
    platform.story.eventually("KEDA takes the last replica", lambda: replicas(platform) == 0)
    platform.story.eventually("its Pod is gone", lambda: not platform.kubectl.list("pods", "-l", "ftm.dev/step=serve"))
    ready = platform.story.condition(NAME, "Ready")
    say(f"no replica {time.monotonic() - began:.0f} s later: {ready['message']}")
    assert (ready["status"], platform.status()["readyReplicas"]) == ("True", 0)


def test_none_serves_while_nobody_asks_and_one_comes_back_for_who_does(platform: Platform, keda: Keda) -> None:
    platform.serve(TENANT, autoscaling=autoscaling(platform.prometheus))
    await_none(platform)
    keda.processes.raise_for_dead()
    statuses = []
    began = time.monotonic()
    with httpx2.Client(timeout=300, trust_env=False) as client:

        def answered() -> bool:
            time.sleep(1)
            reply = ask(client, platform.url, NAME)
            statuses.append(reply.status)
            return reply.tenant == TENANT

        platform.story.eventually("a caller who asks again is answered", answered)
    refused = statuses.count(HTTPStatus.SERVICE_UNAVAILABLE)
    say(f"answered {time.monotonic() - began:.0f} s after the first request; {refused} were refused meanwhile")
    assert set(statuses) == {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK}
    assert FACT.in_answer(platform.ask())
    await_none(platform)
