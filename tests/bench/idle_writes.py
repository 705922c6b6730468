"""Counts what the operator writes about many adapters while nothing changes, against a real API server.

A model of mode Dynamic is inspected and its adapters are kept; no node runs its pods, so that all wait for one.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from tests.cluster.cluster import control_plane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import Kubelet, eventually
from tests.cluster.operator_process import operator_process
from tests.unit.operator import adapters
from tests.unit.operator.objects import adapter_facts, base_facts, report

NAMESPACE = "idle-writes"
ADAPTERS = 20
QUIET_SECONDS = 15.0
"""Several full lists of everything, which come every two seconds here."""


def idle_writes() -> int:
    """Returns the operator's writes in QUIET_SECONDS."""
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane:
        operator_folder = Path(folder, "operator")
        operator_folder.mkdir()
        with operator_process(plane, NAMESPACE, operator_folder) as operator:
            operator.start()
            kubectl = plane.kubectl.within(NAMESPACE)
            _keep_all(kubectl)
            _settle(lambda: len(plane.audit(operator.user)))
            before = len(plane.audit(operator.user))
            time.sleep(QUIET_SECONDS)
            return len(plane.audit(operator.user)) - before


def _keep_all(kubectl: Kubectl) -> None:
    kubelet = Kubelet(kubectl)
    kubectl.apply(_stripped(adapters.model()), *(_stripped(adapters.adapter(f"a-{n}")) for n in range(ADAPTERS)))
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=Facts(base=base_facts(), adapters=())))
    for number in range(ADAPTERS):
        kubelet.end("adapter", _kept(f"sha256:{number:064x}"))
    eventually("all adapters are kept", lambda: _kept_adapters(kubectl) == ADAPTERS, 120)


def _settle(writes: Any) -> None:
    """Returns once nothing was written for a few seconds."""
    before = -1
    while (now := writes()) != before:
        before = now
        time.sleep(5)


def _kept_adapters(kubectl: Kubectl) -> int:
    items = kubectl.list("finetunedadapters")
    return sum("artifact" in (item.get("status") or {}) for item in items)


def _stripped(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {"name": item["metadata"]["name"], "namespace": NAMESPACE}}


def _kept(digest: str) -> Report:
    key = f"adapter-{digest[-32:]}"
    artifact = {"key": key, "uri": f"s3://artifacts/built/{key}", "digest": digest, "totalBytes": 9, "files": 2}
    facts = Facts(base=base_facts(), adapters=(adapter_facts(),))
    return report(Step.ADAPTER, "AdapterKept", facts=facts, artifact=artifact)
