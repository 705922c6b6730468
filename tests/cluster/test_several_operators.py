"""Several operators over the same models, on a real API server: one writes, the others say who does."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.operator_process import RELEASE, OperatorProcess, prepared
from tests.unit.operator.objects import facts, merged_report, report, resource, verified_report

MODELS, ELSEWHERE = "several-operators", "second-installation"
LEASE, CLUSTER_LEASE = "ftm-operator", "ftm-operator-cluster-wide"
Install = Callable[..., OperatorProcess]


@pytest.fixture
def install(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Install]:
    """Makes operators, each of the installation of a namespace, that watch the models' namespace; all end after."""
    admin = prepared(control_plane, MODELS, ELSEWHERE)
    operators: list[OperatorProcess] = []

    def make(namespace: str, pod: str = "operator-0", watched: str = MODELS) -> OperatorProcess:
        folder = tmp_path / f"{namespace}-{pod}"
        folder.mkdir()
        operator = OperatorProcess(control_plane, namespace, folder, environment={"FTM_NAMESPACES": watched}, pod=pod)
        operator.permit()
        operator.start()
        operators.append(operator)
        return operator

    yield make
    for operator in operators:
        if operator.running():
            operator.kill()
    admin.within(MODELS)("delete", "finetunedmodels", "--all", "--wait")
    admin.within(MODELS)("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    admin.within(MODELS)("delete", "lease", LEASE, "--ignore-not-found")
    admin.within("default")("delete", "lease", CLUSTER_LEASE, "--ignore-not-found")
    eventually("an empty namespace", lambda: not children(admin.within(MODELS)))


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return control_plane.kubectl.within(MODELS)


def apply(kubectl: Kubectl, name: str = "support-bot") -> None:
    kubectl.apply({**resource(name), "metadata": {"name": name, "namespace": MODELS}})


def serve(kubectl: Kubectl) -> None:
    apply(kubectl)
    kubelet = Kubelet(kubectl)
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    kubelet.ready()
    await_phase(kubectl, "Ready")


def serves(operator: OperatorProcess, scope: str = MODELS) -> bool:
    return f'ftm_operator_serves{{scope="{scope}"}} 1' in operator.probe("/metrics")[1]


def starts(kubectl: Kubectl, name: str) -> None:
    """Applies a model, and waits for its first Job."""
    apply(kubectl, name)
    eventually("a Job", lambda: kubectl.list("jobs", "-l", f"ftm.dev/name={name}"))


def generations(kubectl: Kubectl) -> dict[str, int]:
    found = [*kubectl.list("deployments"), *kubectl.list("jobs"), *kubectl.list("finetunedmodels")]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["generation"] for each in found}


def test_of_two_installations_one_writes_and_the_other_says_so_and_takes_over(
    install: Install, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    first, second = install(MODELS), install(ELSEWHERE)
    serve(kubectl)
    before, writes = generations(kubectl), len(control_plane.audit(first.user))
    renewals = len(control_plane.audit(first.user, leases=True))
    time.sleep(3 * first.resync_seconds)
    assert generations(kubectl) == before
    assert get(kubectl)["status"]["managedBy"] == f"{MODELS}/{RELEASE}"
    assert len(control_plane.audit(first.user)) == writes
    assert control_plane.audit(second.user) == control_plane.audit(second.user, leases=True) == []
    assert 1 <= len(control_plane.audit(first.user, leases=True)) - renewals <= 3 * first.resync_seconds

    sentence = f"{MODELS}: {MODELS}/{RELEASE}/operator-0 holds the Lease; this operator stands by"
    assert second.log.count(sentence) == 1
    assert second.probe("/readyz") == (200, sentence)
    assert (second.health(), serves(first), serves(second)) == (200, True, False)
    assert f'stands_by{{scope="{MODELS}",holder="{MODELS}/{RELEASE}/operator-0"}} 1' in second.probe("/metrics")[1]

    first.kill()
    eventually("the second takes over", lambda: serves(second))
    starts(kubectl, "another")
    assert kubectl.get("lease", LEASE)["spec"]["leaseTransitions"] == 1
    first.start()
    eventually("the first stands by", lambda: f"{ELSEWHERE}/{RELEASE}" in first.probe("/readyz")[1])
    writes = len(control_plane.audit(first.user))
    starts(kubectl, "third")
    assert len(control_plane.audit(first.user)) == writes
    assert "Traceback" not in first.log + second.log


def test_another_pod_follows_at_once_on_one_that_is_told_to_stop(install: Install, kubectl: Kubectl) -> None:
    first, second = install(MODELS), install(MODELS, "operator-1")
    eventually("the first serves", lambda: serves(first))
    assert first.stop() == 0
    assert kubectl.get("lease", LEASE)["spec"]["holderIdentity"].startswith(f"{MODELS}/{RELEASE}")
    eventually("the second serves", lambda: serves(second))
    starts(kubectl, "support-bot")


def test_an_installation_of_all_namespaces_leaves_out_the_one_that_another_names(
    install: Install, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    everywhere = install(ELSEWHERE, watched="")
    eventually("it serves all", lambda: serves(everywhere, "all namespaces"))
    starts(kubectl, "first")
    narrow = install(MODELS)
    sentence = f"{MODELS}: {MODELS}/{RELEASE}/operator-0 holds the Lease; this operator stands by"
    eventually("it leaves the namespace", lambda: sentence in everywhere.probe("/readyz")[1])
    writes = len(control_plane.audit(everywhere.user))
    assert not serves(narrow)
    eventually("the other serves it", lambda: serves(narrow))
    starts(kubectl, "second")
    assert len(control_plane.audit(everywhere.user)) == writes
    assert serves(everywhere, "all namespaces")
