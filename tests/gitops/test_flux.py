"""The operator and its models as Kustomizations that wait: in order to Ready, no drift, a bad manifest, pruning.

There is no node here: `serve` plays the kubelet, and the operator runs beside the cluster as the service account that
Flux made for it.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.helm import helm
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import children, eventually, get
from tests.cluster.operator_process import CHART, OperatorProcess
from tests.gitops.flux import Flux
from tests.gitops.models import (
    BUCKET_NOT_FOUND,
    autoscaler,
    documented,
    model,
    operator_answers,
    refuse_inspection,
    serve,
    waiting,
)

NAMESPACE = "flux-models"
QUIET_SECONDS = 30
"""Six times the interval in which Flux applies everything again."""


@pytest.fixture(scope="module")
def flux(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    flux = Flux(control_plane, tmp_path_factory.mktemp("flux"))
    flux.start()
    yield flux
    flux.stop()


@pytest.fixture(scope="module")
def operator(flux: Flux) -> Iterator[OperatorProcess]:
    """The operator that a Kustomization installed; the model's Kustomization depends on it and waited for it."""
    admin = flux.control_plane.kubectl
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    watched = f"--set=watchNamespaces={{{NAMESPACE}}}"
    rendered = helm("template", "ftm-operator", str(CHART), f"--namespace={NAMESPACE}", watched)
    flux.publish("operator", {"operator.yaml": rendered})
    flux.publish("models", {"support-bot.yaml": model()})
    flux.kustomize("operator", NAMESPACE)
    flux.kustomize("models", NAMESPACE, "operator")
    kubectl = admin.within(NAMESPACE)
    pod = eventually("the operator's pod", lambda: kubectl.list("pods", "-l", "app.kubernetes.io/name=ftm-operator"))
    assert not kubectl.list("finetunedmodels")
    operator_answers(kubectl, pod[0]["metadata"]["name"])
    eventually("the model", lambda: kubectl.list("finetunedmodels"))
    process = OperatorProcess(flux.control_plane, NAMESPACE, flux.folder)
    process.authenticate()
    process.start()
    yield process
    process.kill()


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Kubectl:
    return operator.control_plane.kubectl.within(NAMESPACE)


def test_operator_and_model_are_applied_in_order_and_waited_for(flux: Flux, kubectl: Kubectl) -> None:
    assert flux.ready("models")["status"] != "True"
    serve(kubectl)
    flux.reach("models", "True", "Applied revision")


def test_nothing_drifts_beside_an_autoscaler_and_an_edited_child(
    flux: Flux, operator: OperatorProcess, kubectl: Kubectl
) -> None:
    kubectl.apply(autoscaler(2))
    eventually("the autoscaler's replicas", lambda: get(kubectl)["spec"]["serving"]["replicas"] == 2)
    kubectl("set", "env", "deployment/support-bot", "ADDED=by-hand")
    serve(kubectl)
    flux.reach("models", "True")
    before = get(kubectl)["metadata"]["generation"], written(flux, operator.user), written(flux, flux.user)
    seen = set()
    ends = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < ends:
        seen.add((get(kubectl)["status"]["phase"], get(kubectl)["spec"]["serving"]["replicas"]))
        time.sleep(0.5)
    assert seen == {("Ready", 2)}
    assert (get(kubectl)["metadata"]["generation"], written(flux, operator.user), written(flux, flux.user)) == before
    flux.reach("models", "True")


def written(flux: Flux, user: str) -> list[str]:
    """A user's writes to the models' namespace that were more than a dry run."""
    writes = [each for each in flux.control_plane.audit(user) if each["objectRef"].get("namespace") == NAMESPACE]
    return [each["requestURI"] for each in writes if "dryRun" not in each["requestURI"]]


def test_what_a_hand_changed_in_the_model_is_put_back(flux: Flux, kubectl: Kubectl) -> None:
    kubectl("patch", "ftm", "support-bot", "--type=merge", "-p", '{"spec": {"base": {"secretName": "other"}}}')
    eventually("what the source says", lambda: get(kubectl)["spec"]["base"]["secretName"] == "models-s3")
    serve(kubectl)
    flux.reach("models", "True")


def test_a_manifest_that_no_operator_can_serve_fails_at_once_and_its_resource_has_the_sentence(
    flux: Flux, kubectl: Kubectl
) -> None:
    flux.publish("models", {"support-bot.yaml": model(base={"uri": "s3://modles/base"})})
    eventually("an inspection", lambda: waiting(kubectl, "inspect"))
    refuse_inspection(kubectl)
    flux.reach("models", "False", "FineTunedModel/flux-models/support-bot status: 'Failed'", seconds=30)
    conditions = get(kubectl)["status"]["conditions"]
    assert [each["message"] for each in conditions if each["type"] == "Stalled"] == [BUCKET_NOT_FOUND]
    assert kubectl.get("deployment", "support-bot")["status"]["readyReplicas"] == 2
    flux.publish("models", {"support-bot.yaml": model()})
    serve(kubectl)
    flux.reach("models", "True")


def test_a_suspended_model_is_current_where_the_kustomization_says_so(flux: Flux, kubectl: Kubectl) -> None:
    expressions = documented("Kustomization")["spec"]["healthCheckExprs"]
    flux.kustomize("models", NAMESPACE, "operator", healthCheckExprs=expressions)
    flux.publish("models", {"support-bot.yaml": model(suspend=True)})
    flux.reach("models", "True")
    assert get(kubectl)["status"]["phase"] == "Suspended"
    flux.publish("models", {"support-bot.yaml": model()})
    serve(kubectl)
    flux.reach("models", "True")


def test_what_leaves_the_source_leaves_the_cluster(flux: Flux, kubectl: Kubectl) -> None:
    flux.publish("models", {"none.yaml": CONFIG_MAP})
    eventually("no model", lambda: not kubectl.list("ftm"))
    eventually("no children", lambda: not children(kubectl))
    flux.reach("models", "True")
    flux.kubectl("delete", "kustomization", "models", "operator", "--wait", timeout_seconds=90)
    assert not kubectl.list("deployments,serviceaccounts,roles", "-l", "app.kubernetes.io/name=ftm-operator")


CONFIG_MAP: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}}
