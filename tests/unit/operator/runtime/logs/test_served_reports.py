"""Sidecars' logs are read until they tell the verdict by which a pod is ready, and no failure of that fails a pass."""

from dataclasses import dataclass, field
from typing import Any, cast

from ftm_jobs.contract.verification import Check, ServedVerification
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.logs.served_reports import READ_SECONDS, UNREADY_SECONDS, ServedReports

KEY = ("team-a", "support-bot")


def line(*, passed: bool) -> str:
    check = Check(name="ServedLogprobs", value=0, bound=1, unit="nats/token", passed=passed)
    return ServedVerification(reason="R", message="m", reference="d", passed=passed, checks=(check,)).line()


def pod(*, ready: bool = False, restarts: int = 0) -> dict[str, Any]:
    engine = {"name": "vllm", "restartCount": restarts}
    return {
        "metadata": {"name": "a", "uid": "1", "labels": {"ftm.dev/step": "serve", "app.kubernetes.io/name": "vllm"}},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [{"name": "served", "state": {"running": {}}}],
            "containerStatuses": [engine],
        },
    }


@dataclass
class Logs:
    """Stands in for the cluster."""

    text: str | None = ""
    reads: list[str] = field(default_factory=list)

    async def log_tail(self, namespace: str, pod: str, container: str, _lines: int, _bytes: int) -> str:
        self.reads.append(f"{namespace}/{pod} {container}")
        if self.text is None:
            raise ApiError("GET", 0, "no answer")
        return self.text


def reports(logs: Logs) -> ServedReports:
    return ServedReports(cast(Cluster, logs))


async def test_a_log_is_read_until_the_pod_is_ready_by_its_verdict() -> None:
    logs = Logs()
    found = reports(logs)
    await found.read(KEY, [pod()])
    await found.read(KEY, [pod()])
    assert logs.reads == ["team-a/a served"]
    due = found.seconds_to_next(KEY)
    assert due is not None
    assert 0 < due <= READ_SECONDS
    logs.text = f"something else\n{line(passed=True)}\n"
    await found.read(KEY, [pod(ready=True)])
    assert found.said(KEY)["a"].passed
    assert found.seconds_to_next(KEY) is None
    await found.read(KEY, [pod(ready=True)])
    assert len(logs.reads) == 2


async def test_an_engine_that_starts_anew_makes_the_log_worth_reading() -> None:
    logs = Logs(line(passed=True))
    found = reports(logs)
    await found.read(KEY, [pod(ready=True)])
    await found.read(KEY, [pod(ready=False, restarts=1)])
    assert len(logs.reads) == 2
    due = found.seconds_to_next(KEY)
    assert due is not None
    assert READ_SECONDS < due <= UNREADY_SECONDS


async def test_a_log_that_cannot_be_read_fails_no_pass() -> None:
    found = reports(Logs(None))
    await found.read(KEY, [pod()])
    assert found.said(KEY) == {}
    assert found.seconds_to_next(KEY) is not None


async def test_pods_without_the_sidecar_and_pods_that_are_gone_are_forgotten() -> None:
    logs = Logs(line(passed=True))
    found = reports(logs)
    await found.read(KEY, [pod(ready=True)])
    await found.read(KEY, [])
    assert (found.said(KEY), found.seconds_to_next(KEY)) == ({}, None)
