"""The chart: what it renders, which values it refuses, and what it installs on a real API server."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftm_operator.environment import from_environment
from tests.cluster.control_plane import ControlPlane
from tests.cluster.helm import helm
from tests.cluster.kubectl import Kubectl, Manifest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "ftm-operator"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
RELEASE, NAMESPACE = "ftm-operator", "ftm-chart-test"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
ROLE = f"{NAMESPACE}:{RELEASE}"
"""The name of the operator's cluster role, and of its bindings."""
CRDS = ("finetunedmodels.ftm.dev", "finetunedadapters.ftm.dev")


def render(*sets: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The rendered objects by kind and name."""
    flags = [flag for value in sets for flag in ("--set", value)]
    documents = yaml.safe_load_all(helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *flags))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents if each}


def pod_of(rendered: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = rendered["Deployment", RELEASE]["spec"]["template"]
    return template


def environment(*sets: str) -> dict[str, str]:
    (container,) = pod_of(render(*sets))["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def leaves(values: dict[str, Any], path: str = "") -> list[str]:
    return [
        leaf
        for name, value in values.items()
        for leaf in (leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else [f"{path}{name}"])
    ]


def test_helm_finds_nothing_to_complain_about() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_the_operator_understands_the_environment_that_the_chart_gives_it() -> None:
    settings = from_environment(
        environment(
            "artifacts.uri=s3://models/built",
            "artifacts.secretName=artifacts-s3",
            "watchNamespaces={one,two}",
            "imagePullSecrets[0].name=pull",
            "imagePullSecrets[1].name=pull-too",
            "images.jobs.repository=registry.example/ftm-jobs",
            "images.jobs.tag=v1@sha256:abc",
            "imagePullPolicy=Never",
            "logFormat=text",
            "resyncSeconds=60",
            "autoscaling.prometheus=http://prometheus.monitoring:9090",
        )
    )
    assert settings.jobs_image == "registry.example/ftm-jobs:v1@sha256:abc"
    assert settings.merge_image == "ftm-merge:0.1.0"
    assert settings.gguf_image == "ftm-quantize-gguf:0.1.0"
    assert settings.awq_image == "ftm-quantize-awq:0.1.0"
    assert settings.compressor_image == "ftm-quantize-compressor:0.1.0"
    assert settings.llama_cpp_image == "ftm-serve-llamacpp:0.1.0"
    assert settings.vllm_image == "docker.io/vllm/vllm-openai:v0.33.0"
    assert settings.image_pull_policy == "Never"
    assert settings.image_pull_secrets == ("pull", "pull-too")
    assert (settings.artifacts_uri, settings.artifacts_secret_name) == ("s3://models/built", "artifacts-s3")
    assert settings.namespaces == ("one", "two")
    assert settings.prometheus == "http://prometheus.monitoring:9090"
    assert settings.installation == f"{NAMESPACE}/{RELEASE}"
    assert (settings.log_format, settings.resync_seconds, settings.health_port) == ("text", 60, 8080)


def test_what_is_not_set_is_left_to_the_operators_defaults() -> None:
    settings = from_environment(environment())
    assert (settings.artifacts_uri, settings.artifacts_secret_name, settings.namespaces) == (None, None, ())


def test_every_value_is_used_and_documented() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    readme = (CHART / "README.md").read_text()
    for leaf in leaves({**VALUES, "images": {}, "resources": {}}):
        if leaf != "images":
            assert f".Values.{leaf}" in templates, f"{leaf} is used by no template"
        assert re.search(rf"\| `{re.escape(leaf)}[`.]", readme), f"{leaf} is not in the chart's README"
    for used in set(re.findall(r"\.Values\.([\w.]+)", templates)):
        assert used.split(".")[0] in VALUES, f"{used} is not in values.yaml"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("artefacts.uri=s3://models/built", "additional properties 'artefacts' not allowed"),
        ("images.vllm.tga=v1", "additional properties 'tga' not allowed"),
        ("images.vllm.tag=", "minLength"),
        ("artifacts.uri=hf://org/name", "does not match pattern"),
        ("artifacts.uri=file:///models", "does not match pattern"),
        ("artifacts.secretName=Not_A_Name", "artifacts/secretName"),
        ("imagePullPolicy=Sometimes", "value must be one of"),
        ("logFormat=xml", "value must be one of 'json', 'text'"),
        ("resyncSeconds=1", "minimum"),
        ("autoscaling.prometheus=prometheus:9090", "does not match pattern"),
        ("replicas=0", "minimum"),
        ("crds.keep=maybe", "want boolean"),
        ("watchNamespaces={a,a}", "items at 0 and 1 are equal"),
        ("serviceAccount.create=false", "set serviceAccount.name to the ServiceAccount to use"),
    ],
)
def test_a_wrong_value_is_refused(value: str, complaint: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(complaint)):
        render(value)


@pytest.mark.parametrize("name", CRDS)
def test_the_crds_are_installed_and_kept_unless_values_say_otherwise(name: str) -> None:
    crd, plural = render()["CustomResourceDefinition", name], name.partition(".")[0]
    assert crd["spec"] == yaml.safe_load((ROOT / "crds" / f"ftm.dev_{plural}.yaml").read_text())["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in render("crds.keep=false")["CustomResourceDefinition", name]["metadata"]
    assert ("CustomResourceDefinition", name) not in render("crds.enabled=false")


def test_the_old_version_has_stopped_before_the_new_one_starts() -> None:
    spec = render()["Deployment", RELEASE]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert render("replicas=2")["Deployment", RELEASE]["spec"]["replicas"] == 2


def test_a_pod_that_stands_by_is_asked_whether_it_is_ready_and_not_whether_it_works() -> None:
    (container,) = pod_of(render())["spec"]["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_what_is_watched_is_all_that_may_be_touched() -> None:
    everywhere = render()
    assert ("ClusterRoleBinding", ROLE) in everywhere
    assert not [name for kind, name in everywhere if kind == "RoleBinding"]
    documents = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--set", "watchNamespaces={one,two}")
    bindings = [each for each in yaml.safe_load_all(documents) if each and each["kind"].endswith("RoleBinding")]
    bound = {(each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]) for each in bindings}
    assert bound == {
        ("RoleBinding", "one", ROLE),
        ("RoleBinding", "two", ROLE),
        ("ClusterRoleBinding", None, f"{ROLE}:discovery"),
    }


def places(release: str, namespace: str, *flags: str, chart: Path = CHART) -> set[tuple[str, str | None, str]]:
    """Kind, namespace and name of each object that a release renders."""
    documents = yaml.safe_load_all(helm("template", release, str(chart), "--namespace", namespace, *flags))
    return {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents if each}


@pytest.mark.parametrize(
    ("release", "namespace"), [(RELEASE, "elsewhere"), (f"{RELEASE}-viewer", NAMESPACE), ("second", NAMESPACE)]
)
@pytest.mark.parametrize("watched", [(), ("--set", "watchNamespaces={one}")])
def test_two_releases_share_the_crds_alone(release: str, namespace: str, watched: tuple[str, ...]) -> None:
    shared = places(RELEASE, NAMESPACE, *watched) & places(release, namespace, *watched)
    assert shared == {("CustomResourceDefinition", None, name) for name in CRDS}


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[Kubectl]:
    """The chart on a real API server, in a namespace that lets only restricted Pods in."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    )
    upgrade(control_plane)
    yield control_plane.kubectl.within(NAMESPACE)
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, kubeconfig=control_plane.kubeconfig)
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def upgrade(control_plane: ControlPlane, *flags: str, chart: Path = CHART) -> None:
    # Without a node nothing becomes ready, and other tests may have installed the CRD by themselves.
    options = ["--install", "--namespace", NAMESPACE, "--take-ownership", "--server-side=true", "--force-conflicts"]
    helm("upgrade", RELEASE, str(chart), *options, *flags, kubeconfig=control_plane.kubeconfig)


def can(kubectl: Kubectl, verb: str, resource: str, user: str, name: str = "") -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {**attributes(kubectl, verb, resource), "name": name}},
    }
    answer = json.loads(kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def attributes(kubectl: Kubectl, verb: str, resource: str) -> Manifest:
    name, _, group = resource.partition(".")
    plural, _, subresource = name.partition("/")
    return {
        "namespace": kubectl.namespace,
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
    }


def test_its_pod_is_admitted_where_only_restricted_pods_are(installed: Kubectl) -> None:
    template = installed.get("deployment", RELEASE)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "operator"}}
    installed("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


CHILDREN = (
    "jobs.batch",
    "deployments.apps",
    "services",
    "configmaps",
    "finetunedadapters.ftm.dev",
    "horizontalpodautoscalers.autoscaling",
    "scaledobjects.keda.sh",
    "httproutes.gateway.networking.k8s.io",
    "inferencepools.inference.networking.k8s.io",
)


@pytest.mark.parametrize("resource", CHILDREN)
def test_the_operator_may_manage_its_children(installed: Kubectl, resource: str) -> None:
    for verb in ("get", "list", "watch", "create", "patch", "delete"):
        assert can(installed, verb, resource, ACCOUNT)


def test_the_operator_may_read_how_far_a_merge_is_and_which_adapters_a_pod_holds(installed: Kubectl) -> None:
    assert can(installed, "get", "pods/log", ACCOUNT)


def test_the_operator_may_tell_a_pod_of_other_adapters_and_neither_make_nor_end_one(installed: Kubectl) -> None:
    allowed = {verb for verb in ("patch", "create", "update", "delete") if can(installed, verb, "pods", ACCOUNT)}
    assert allowed == {"patch"}


@pytest.mark.parametrize("name", ["ftm-operator", "ftm-operator-cluster-wide"])
def test_the_operator_may_keep_its_own_leases_and_no_other(installed: Kubectl, name: str) -> None:
    for verb in ("get", "list", "update"):
        assert can(installed, verb, "leases.coordination.k8s.io", ACCOUNT, name)
        assert not can(installed, verb, "leases.coordination.k8s.io", ACCOUNT, "kube-scheduler")
    assert can(installed, "create", "leases.coordination.k8s.io", ACCOUNT)
    assert not can(installed, "delete", "leases.coordination.k8s.io", ACCOUNT, name)


def test_the_operator_may_say_how_pods_claim_their_gpus(installed: Kubectl) -> None:
    for verb in ("create", "patch"):
        assert can(installed, verb, "resourceclaimtemplates.resource.k8s.io", ACCOUNT)


@pytest.mark.parametrize("resource", ["nodes", "resourceslices.resource.k8s.io"])
def test_the_operator_may_learn_which_gpus_there_are(installed: Kubectl, resource: str) -> None:
    assert can(installed, "list", resource, ACCOUNT)
    assert can(installed, "watch", resource, ACCOUNT)


def test_without_observing_no_node_may_be_read() -> None:
    documents = helm("template", RELEASE, str(CHART), "--set", "accelerators.observe=false")
    assert "resourceslices" not in documents
    assert 'name: FTM_OBSERVE_ACCELERATORS\n              value: "false"' in documents


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("patch", "finetunedmodels.ftm.dev"),
        ("delete", "finetunedmodels.ftm.dev"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("update", "finetunedadapters.ftm.dev"),
        ("patch", "nodes"),
    ],
)
def test_the_operator_may_not_do_more_than_it_needs(installed: Kubectl, verb: str, resource: str) -> None:
    assert not can(installed, verb, resource, ACCOUNT)


def test_the_operator_writes_the_status_of_models_and_nothing_else_of_them(installed: Kubectl) -> None:
    assert can(installed, "patch", "finetunedmodels/status.ftm.dev", ACCOUNT)
    assert can(installed, "patch", "finetunedadapters/status.ftm.dev", ACCOUNT)
    assert can(installed, "watch", "finetunedmodels.ftm.dev", ACCOUNT)
    assert not can(installed, "update", "finetunedmodels.ftm.dev", ACCOUNT)


def test_whoever_may_edit_a_namespace_may_edit_its_models(installed: Kubectl, control_plane: ControlPlane) -> None:
    if not control_plane.controllers:
        pytest.skip("roles are aggregated by a controller, and this control plane runs none")
    for role in ("view", "edit"):
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"user-who-may-{role}"}],
        }
        installed.apply(binding)
    resource = "finetunedmodels.ftm.dev"
    deadline = time.monotonic() + 120
    while not can(installed, "create", resource, "user-who-may-edit") and time.monotonic() < deadline:
        time.sleep(0.2)
    for kind in (resource, "finetunedadapters.ftm.dev"):
        assert can(installed, "create", kind, "user-who-may-edit")
        assert can(installed, "get", kind, "user-who-may-view")
        assert not can(installed, "create", kind, "user-who-may-view")
    assert can(installed, "patch", "finetunedmodels/scale.ftm.dev", "user-who-may-edit")
    for kind in ("finetunedmodels", "finetunedadapters"):
        assert not can(installed, "patch", f"{kind}/status.ftm.dev", "user-who-may-edit")


def cluster_roles(chart: Path) -> set[str]:
    """The cluster roles and their bindings that the chart renders, as kubectl names them."""
    named = places(RELEASE, NAMESPACE, chart=chart)
    return {f"{kind.lower()}.rbac.authorization.k8s.io/{name}" for kind, _, name in named if "ClusterRole" in kind}


def test_an_upgrade_deletes_the_cluster_roles_of_former_names(
    installed: Kubectl, control_plane: ControlPlane, tmp_path: Path
) -> None:
    former = tmp_path / CHART.name
    shutil.copytree(CHART, former)
    for template in (former / "templates" / "rbac").iterdir():
        named = template.read_text().replace("ftm-operator.clusterName", "ftm-operator.fullname")
        template.write_text(named.replace("}}:", "}}-"))
    before, after = cluster_roles(former), cluster_roles(CHART)
    upgrade(control_plane, chart=former)
    assert before <= set(installed("get", "clusterroles,clusterrolebindings", "-o", "name").split())
    upgrade(control_plane)
    present = set(installed("get", "clusterroles,clusterrolebindings", "-o", "name").split())
    assert after <= present
    assert not before & present


def test_the_same_release_in_another_namespace_installs_beside_it(
    installed: Kubectl, control_plane: ControlPlane
) -> None:
    beside, flags = "ftm-chart-beside", ("--namespace", "ftm-chart-beside")
    helm(
        "install",
        RELEASE,
        str(CHART),
        *flags,
        "--create-namespace",
        "--set",
        "crds.enabled=false",
        kubeconfig=control_plane.kubeconfig,
    )
    for namespace in (NAMESPACE, beside):
        assert can(installed, "list", "finetunedmodels.ftm.dev", f"system:serviceaccount:{namespace}:{RELEASE}")
    helm("uninstall", RELEASE, *flags, kubeconfig=control_plane.kubeconfig)
    assert can(installed, "list", "finetunedmodels.ftm.dev", ACCOUNT)
    assert not can(installed, "list", "finetunedmodels.ftm.dev", f"system:serviceaccount:{beside}:{RELEASE}")
    control_plane.kubectl("delete", "namespace", beside, "--wait=false")


def test_uninstalling_keeps_the_resources(installed: Kubectl, control_plane: ControlPlane) -> None:
    installed("apply", "-f", str(ROOT / "examples" / "minimal.yaml"))
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", kubeconfig=control_plane.kubeconfig)
    assert installed.list("deployment") == []
    assert installed.get("finetunedmodel", "support-bot")["spec"]["suspend"] is False
    upgrade(control_plane)
    assert installed.get("finetunedmodel", "support-bot")["spec"]["suspend"] is False
