"""The operator and its models as an Application: by waves to Healthy, no drift, no flap, a bad manifest, pruning.

There is no node here: `Kubelet` ends the Jobs' pods and says that serving pods answer, and the operator runs beside the
cluster as the service account that Argo CD made for it.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import children, eventually, get
from tests.cluster.operator_process import CHART, OperatorProcess
from tests.gitops.argo_cd import ArgoCD
from tests.gitops.git_repository import GitRepository
from tests.gitops.models import BUCKET_NOT_FOUND, autoscaler, model, operator_answers, refuse_inspection, serve, waiting

NAMESPACE = "argo-models"
QUIET_SECONDS = 60
MODEL = "models/support-bot.yaml"
SERVER_SIDE_DIFF, SERVER_SIDE_APPLY = "ServerSideDiff=true", ["ServerSideApply=true"]
AS_DOCUMENTED = "ServerSideDiff=true,IncludeMutationWebhook=true"
WAYS: dict[str, dict[str, Any]] = {
    "client-side": {},
    "server-side-apply": {"options": SERVER_SIDE_APPLY},
    "server-side-diff": {"compare": SERVER_SIDE_DIFF},
}
"""How Argo CD compares and applies, its default first; each has an Application with a model of its own."""
NOTICING = ("client-side", "server-side-apply")
"""Those that see when a field is removed from git, for which the CRD has a default."""
SERVED = ("ftm", *WAYS)
ALL = (*SERVED, "examples")
FULL: dict[str, Any] = {
    "quantization": {"gguf": {"strict": True}},
    "verification": {
        "prompts": [{"prompt": "Which?", "expect": ["this"]}, {"messages": [{"role": "user", "content": "Who?"}]}]
    },
    "serving": {
        "gpuMemoryUtilization": 0.9,
        "env": [{"name": "EMPTY", "value": ""}, {"name": "SET", "value": "1"}],
        "extraArgs": ["--enforce-eager"],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "resources": {"requests": {"cpu": 4, "memory": "30Gi"}, "limits": {"memory": "4.5e10"}},
    },
    "jobs": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "fast"}},
}
EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE = "activeDeadlineSeconds"
JOBS = {DEADLINE: 3600}
OURS = "app.kubernetes.io/managed-by=ftm-operator"
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}}


@pytest.fixture(scope="module")
def argo(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    argo = ArgoCD(control_plane, tmp_path_factory.mktemp("argocd"))
    argo.start()
    yield argo
    argo.stop()


@pytest.fixture(scope="module")
def repository(argo: ArgoCD) -> GitRepository:
    repository = GitRepository(argo.folder / "repository")
    repository.create()
    repository.copy(CHART, "charts/ftm-operator")
    repository.commit({MODEL: in_wave(1, jobs=JOBS)})
    return repository


def in_wave(wave: int, **spec: Any) -> dict[str, Any]:
    made = model(**spec)
    made["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": str(wave)}
    return made


def source(repository: GitRepository, path: str) -> dict[str, Any]:
    return {"repoURL": repository.url, "targetRevision": "main", "path": path}


def sources(repository: GitRepository) -> list[dict[str, Any]]:
    helm = {"releaseName": "ftm-operator", "valuesObject": {"watchNamespaces": [NAMESPACE]}}
    return [source(repository, "charts/ftm-operator") | {"helm": helm}, source(repository, "models")]


@pytest.fixture(scope="module")
def operator(argo: ArgoCD, repository: GitRepository) -> Iterator[OperatorProcess]:
    """The operator that an Application with a model in its second wave installed; the model waited for it."""
    argo.sync("ftm", NAMESPACE, sources(repository), AS_DOCUMENTED, SERVER_SIDE_APPLY)
    kubectl = argo.control_plane.kubectl.within(NAMESPACE)
    pod = eventually("the operator's pod", lambda: kubectl.list("pods", "-l", "app.kubernetes.io/name=ftm-operator"))
    assert not kubectl.list("finetunedmodels")
    operator_answers(kubectl, pod[0]["metadata"]["name"])
    eventually("the model", lambda: kubectl.list("finetunedmodels"))
    process = OperatorProcess(argo.control_plane, NAMESPACE, argo.folder)
    process.authenticate()
    process.start()
    yield process
    process.kill()


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Kubectl:
    return operator.control_plane.kubectl.within(NAMESPACE)


def test_operator_and_model_sync_by_waves_to_healthy(argo: ArgoCD, kubectl: Kubectl) -> None:
    argo.reach("ftm", "Synced", "Progressing")
    serve(kubectl)
    argo.reach("ftm", "Synced", "Healthy")
    assert argo.health_of("ftm", "FineTunedModel") == {"status": "Healthy", "message": "1 of 1 replicas answer"}


def test_what_a_hand_changed_in_the_model_is_put_back(argo: ArgoCD, kubectl: Kubectl) -> None:
    kubectl("patch", "ftm", "support-bot", "--type=merge", "-p", json.dumps({"spec": {"jobs": {DEADLINE: 60}}}))
    eventually("what git says", lambda: get(kubectl)["spec"]["jobs"][DEADLINE] == JOBS[DEADLINE])
    argo.reach("ftm", "Synced", "Healthy")


def test_nothing_drifts_or_flaps_beside_an_autoscaler_and_an_edited_child(
    argo: ArgoCD, repository: GitRepository, operator: OperatorProcess, kubectl: Kubectl
) -> None:
    names = {"ftm": "support-bot", **{way: f"{way}-bot" for way in WAYS}}
    repository.commit({f"{way}/model.yaml": model(names[way], jobs=JOBS) for way in WAYS})
    repository.commit({f"examples/{name}.yaml": each for name, each in suspended_examples().items()})
    for way, how in WAYS.items():
        argo.sync(way, NAMESPACE, [source(repository, way)], **how)
    argo.sync("examples", NAMESPACE, [source(repository, "examples")])
    for application, name in names.items():
        await_model(kubectl, name)
        serve(kubectl, name)
        kubectl.apply(autoscaler(2, name))
        await_replicas(kubectl, name, 2)
        kubectl("set", "env", f"deployment/{name}", "ADDED=by-hand")
        serve(kubectl, name)
        argo.reach(application, "Synced", "Healthy")
    argo.reach("examples", "Synced", "Suspended")
    before = {name: argo.operations(name) for name in ALL}
    writes = len(written(argo, operator.user)), len(written(argo, argo.user))
    seen = set()
    ends = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < ends:
        seen |= {(name, *argo.state(name)) for name in ALL}
        time.sleep(0.5)
    assert seen == {*((name, "Synced", "Healthy") for name in SERVED), ("examples", "Synced", "Suspended")}
    assert {name: argo.operations(name) for name in ALL} == before
    assert (len(written(argo, operator.user)), len(written(argo, argo.user))) == writes
    assert {replicas(kubectl, name) for name in names.values()} == {2}
    assert "argocd.argoproj.io" not in kubectl("get", "deployments,services,jobs", "-l", OURS, "-o", "json")


def suspended_examples() -> dict[str, dict[str, Any]]:
    """Every model of examples/ that a cluster takes, and one with lists, numbers and defaults of every kind."""
    documents = [each for file in EXAMPLES.glob("*.yaml") for each in yaml.safe_load_all(file.read_text()) if each]
    models = [each for each in documents if each["kind"] == "FineTunedModel"]
    models = [each for each in models if not each["spec"]["base"]["uri"].startswith("file:")]
    specs = [*(each["spec"] for each in models), FULL | model()["spec"]]
    return {
        f"example-{number}": model(f"example-{number}") | {"spec": spec | {"suspend": True}}
        for number, spec in enumerate(specs)
    }


def await_model(kubectl: Kubectl, name: str) -> None:
    eventually(f"model {name}", lambda: kubectl("get", "ftm", name, "--ignore-not-found"))


def await_replicas(kubectl: Kubectl, name: str, count: int) -> None:
    eventually(f"{count} replicas of {name}", lambda: replicas(kubectl, name) == count)


def replicas(kubectl: Kubectl, name: str) -> int:
    return int(get(kubectl, name)["spec"]["serving"]["replicas"])


def written(argo: ArgoCD, user: str) -> list[dict[str, Any]]:
    """A user's writes to the models' namespace that were more than a dry run."""
    writes = argo.control_plane.audit(user)
    ours = [each for each in writes if each["objectRef"].get("namespace") == NAMESPACE]
    return [each for each in ours if "dryRun" not in each["requestURI"]]


@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize(("application", "path"), [("ftm", MODEL)] + [(way, f"{way}/model.yaml") for way in NOTICING])
def test_a_suspended_model_is_suspended_until_git_says_so_no_longer(
    argo: ArgoCD, repository: GitRepository, application: str, path: str
) -> None:
    manifest = repository.manifest(path)
    repository.commit({path: {**manifest, "spec": manifest["spec"] | {"suspend": True}}})
    argo.reach(application, "Synced", "Suspended")
    repository.commit({path: manifest})
    argo.reach(application, "Synced", "Healthy")


def test_a_manifest_that_no_operator_can_serve_is_degraded_with_the_sentence(
    argo: ArgoCD, repository: GitRepository, kubectl: Kubectl
) -> None:
    repository.commit({MODEL: in_wave(1, jobs=JOBS, base={"uri": "s3://modles/base"})})
    eventually("an inspection", lambda: waiting(kubectl, "inspect"))
    refuse_inspection(kubectl)
    argo.reach("ftm", "Synced", "Degraded")
    assert argo.health_of("ftm", "FineTunedModel") == {"status": "Degraded", "message": BUCKET_NOT_FOUND}
    assert kubectl.get("deployment", "support-bot")["status"]["readyReplicas"] == 2
    repository.commit({MODEL: in_wave(1, jobs=JOBS)})
    serve(kubectl)
    argo.reach("ftm", "Synced", "Healthy")


def test_a_manifest_that_the_api_server_refuses_says_so_in_its_words(
    argo: ArgoCD, repository: GitRepository, kubectl: Kubectl
) -> None:
    wrong = [{"name": "support", "uri": "s3://models/adapters/support", "scale": 0}]
    repository.commit({MODEL: in_wave(1, jobs=JOBS, adapters=wrong)})
    eventually("the refusal", lambda: "0 leaves the adapter out" in argo.said("ftm"), seconds=120)
    assert get(kubectl)["spec"]["adapters"][0].get("scale", 1) == 1
    repository.commit({MODEL: in_wave(1, jobs=JOBS)})
    argo.reach("ftm", "Synced", "Healthy")


def test_what_leaves_git_leaves_the_cluster(argo: ArgoCD, repository: GitRepository, kubectl: Kubectl) -> None:
    repository.commit({"client-side/model.yaml": None, "client-side/none.yaml": CONFIG_MAP})
    eventually("no model", lambda: not kubectl("get", "ftm", "client-side-bot", "--ignore-not-found"))
    argo.reach("client-side", "Synced", "Healthy")
    for name in ALL:
        argo.kubectl("delete", "application", name, "--wait", timeout_seconds=90)
    eventually("no children", lambda: not children(kubectl))
    assert not kubectl.list("ftm")
    assert not kubectl.list(
        "deployments,serviceaccounts,roles,rolebindings", "-l", "app.kubernetes.io/name=ftm-operator"
    )
    assert kubectl("get", "crd", "finetunedmodels.ftm.dev")
