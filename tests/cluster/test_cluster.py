"""The test cluster keeps its promises to the tests that use it, and to the machine that it runs on."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import existing
from tests.cluster.catalogue import JOBS
from tests.cluster.cluster import NodeCluster
from tests.cluster.cluster import control_plane as another_one
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.service import reached

SERVER = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8000, bind='0.0.0.0')"


def test_a_control_plane_answers_and_fills_a_new_namespace(control_plane: ControlPlane) -> None:
    if not control_plane.controllers:
        pytest.skip("etcd and kube-apiserver alone fill no namespace")
    kubectl = control_plane.kubectl
    kubectl("create", "namespace", "answers")

    kubectl.within("answers").wait("serviceaccount/default", "create")
    assert kubectl.within("answers").get("serviceaccount", "default")["metadata"]["namespace"] == "answers"


def test_the_audit_log_tells_who_wrote_and_who_asked_for_secrets(control_plane: ControlPlane) -> None:
    if existing.chosen():
        pytest.skip("an existing cluster's audit log is not ours to read")
    kubectl = control_plane.kubectl
    before = len(control_plane.audit("admin"))
    kubectl("create", "configmap", "written")
    kubectl("get", "configmap", "written")
    kubectl("get", "secrets")

    events = control_plane.audit("admin")[before:]
    assert [(event["verb"], event["objectRef"]["resource"]) for event in events] == [
        ("create", "configmaps"),
        ("list", "secrets"),
    ]


def test_control_planes_run_beside_each_other(control_plane: ControlPlane, tmp_path: Path) -> None:
    with another_one(tmp_path) as second:
        second.kubectl("create", "configmap", "only-in-the-second")

        assert second.server != control_plane.server
        with pytest.raises(KubectlError, match="NotFound"):
            control_plane.kubectl.get("configmap", "only-in-the-second")


def test_a_control_plane_that_ends_leaves_no_process(tmp_path: Path) -> None:
    with another_one(tmp_path):
        assert processes_naming(tmp_path)

    assert processes_naming(tmp_path) == []


@pytest.fixture(scope="module")
def restricted(node_cluster: NodeCluster) -> Kubectl:
    """A namespace that enforces Pod Security `restricted`, with a pod and a Service `server` in it."""
    kubectl = node_cluster.kubectl
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": label}})
    inside = kubectl.within("restricted")
    inside.wait("serviceaccount/default", "create")
    ports = [{"port": 80, "targetPort": 8000}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}}
    inside.apply(pod("server"), {**service, "spec": {"selector": {"run": "server"}, "ports": ports}})
    inside.wait("pod/server", "condition=Ready")
    reached(inside, "server")
    return inside


def test_a_node_runs_a_restricted_pod(restricted: Kubectl) -> None:
    assert restricted("exec", "server", "--", "id", "-u").strip() == "65532"
    with pytest.raises(KubectlError):
        restricted("exec", "server", "--", "touch", "/written")
    assert "ftm_jobs" in restricted("exec", "server", "--", "ls", "/opt/ftm")


def test_a_pod_that_is_not_restricted_is_refused(restricted: Kubectl) -> None:
    loose = pod("loose")
    del loose["spec"]["securityContext"]

    with pytest.raises(KubectlError, match="violates PodSecurity"):
        restricted.create(loose)


def test_a_service_is_reached_from_this_machine_and_from_its_own_pod(restricted: Kubectl) -> None:
    address = restricted.get("service", "server")["spec"]["clusterIP"]
    ask = f"import urllib.request as u; print(u.urlopen('http://{address}/', timeout=5).status)"

    assert answers(f"http://{address}/")
    assert restricted("exec", "server", "--", "python3", "-c", ask).strip() == "200"


def test_pods_know_services_by_name_and_nothing_else(restricted: Kubectl) -> None:
    ask = "import urllib.request as u; print(u.urlopen('http://server.restricted.svc/', timeout=5).status)"
    resolve = "import socket; print(socket.gethostbyname('kubernetes.default.svc'))"
    unknown = "import socket; socket.gethostbyname('nothing.restricted.svc')"

    assert restricted("exec", "server", "--", "python3", "-c", ask).strip() == "200"
    assert restricted("exec", "server", "--", "python3", "-c", resolve).strip() == "10.124.0.1"
    with pytest.raises(KubectlError, match="Name or service not known"):
        restricted("exec", "server", "--", "python3", "-c", unknown)


def test_a_pod_reaches_this_machine_and_nothing_beyond_it(node_cluster: NodeCluster, restricted: Kubectl) -> None:
    api = node_cluster.server.removeprefix("https://")
    connect = "import socket, sys; socket.create_connection(sys.argv[1].split(':'), 2)"

    restricted("exec", "server", "--", "python3", "-c", connect, api)
    with pytest.raises(KubectlError, match=r"timed out|unreachable|No route"):
        restricted("exec", "server", "--", "python3", "-c", connect, "198.51.100.1:80")


def test_a_pod_with_more_gpus_than_the_node_has_stays_pending(node_cluster: NodeCluster, restricted: Kubectl) -> None:
    node_cluster.fake_gpus(8)
    restricted.apply(pod("fits", gpus=2), pod("too-large", gpus=9))

    restricted.wait("pod/fits", "condition=Ready")
    restricted.wait("pod/too-large", "condition=PodScheduled=false")
    conditions = restricted.get("pod", "too-large")["status"]["conditions"]
    assert any("Insufficient nvidia.com/gpu" in condition.get("message", "") for condition in conditions)


def pod(name: str, gpus: int = 0) -> dict[str, Any]:
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "server",
        "image": JOBS.name,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", SERVER],
        "securityContext": confined,
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {},
    }
    who = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": who, "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"run": name}}, "spec": spec}


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)


def processes_naming(folder: Path) -> list[str]:
    """Command lines of the running processes that name a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
