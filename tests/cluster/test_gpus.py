"""Which GPUs there are decides how a model is placed: the operator against a real API server with nodes that say so.

The nodes are objects that no kubelet stands behind; what the operator reads of them is what GPU feature discovery, the
device plugin and a DRA driver write.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract import Facts, Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.operator_process import OperatorProcess
from tests.unit.operator.planning.catalogue import base_facts_of
from tests.unit.operator.world import adapter_facts, merged_report, report, resource, verified_report

NAMESPACE = "gpu-test"
MIB = {"NVIDIA-A10G": 23028, "NVIDIA-H100-80GB-HBM3": 81559, "Tesla-T4": 15360}
MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
DECLARED = [{"name": "H200", "perNode": 8, "nodes": 2, "product": "NVIDIA-H200"}]


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    if not control_plane.controllers:
        pytest.skip("the Job and Deployment controllers do not run on this control plane")
    admin = control_plane.kubectl
    admin("apply", "--server-side", "--force-conflicts", "-f", "crds")
    admin.wait("crd/finetunedmodels.ftm.dev", "condition=Established")
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("gpus"), resync_seconds=60.0)
    process.permit()
    yield process
    if process.running():
        process.kill()


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    """An empty namespace in a cluster without nodes."""
    inside = operator.control_plane.kubectl.within(NAMESPACE)
    yield inside
    operator.kill()
    operator.environment.clear()
    inside("delete", "finetunedmodels", "--all", "--wait")
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    inside("delete", "nodes", "-l", "example.test/pool")
    eventually("an empty namespace", lambda: not children(inside))


def add_node(kubectl: Kubectl, name: str, product: str, gpus: int) -> None:
    labels = {
        "example.test/pool": "gpus",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(MIB[product]),
        "nvidia.com/gpu.count": str(gpus),
    }
    kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi", "pods": "110"}
    patch = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
    kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)


def inspect(kubectl: Kubectl, **serving: Any) -> Kubelet:
    """Mistral-7B in float16, unless `serving` says otherwise, up to where its facts are known."""
    made = resource("support-bot", serving={"dtype": "float16", "maxModelLen": 8192, **serving})
    kubectl.apply({**made, "metadata": {"name": "support-bot", "namespace": NAMESPACE}})
    kubelet = Kubelet(kubectl)
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=MISTRAL))
    return kubelet


def build(kubelet: Kubelet) -> None:
    kubelet.end("merge", merged_report(MISTRAL))
    kubelet.end("verify", verified_report())


def container(kubectl: Kubectl) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = eventually("a Deployment", lambda: next(iter(kubectl.list("deployments")), None))["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def flag(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_of_two_kinds_the_one_that_takes_fewer_gpus_is_asked_for(kubectl: Kubectl, operator: OperatorProcess) -> None:
    add_node(kubectl, "small", "NVIDIA-A10G", 4)
    add_node(kubectl, "large", "NVIDIA-H100-80GB-HBM3", 8)
    operator.start()
    build(inspect(kubectl))
    pod, engine = container(kubectl)
    plan = get(kubectl)["status"]["plan"]
    assert (plan["acceleratorClass"], plan["gpus"]) == ("NVIDIA-H100-80GB-HBM3", 1)
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert flag(engine["args"], "--max-num-batched-tokens") == str(plan["maxNumBatchedTokens"])
    assert flag(engine["args"], "--max-num-seqs") == str(plan["maxNumSeqs"])
    refused = {(each["accelerator"], each["tensorParallelSize"]): each["rule"] for each in plan["rejected"]}
    assert refused["NVIDIA-A10G", 1] == "Memory"
    assert refused["NVIDIA-A10G", 2] == "MoreGPUs"


def test_explain_says_why_this_many_and_not_one(kubectl: Kubectl, operator: OperatorProcess) -> None:
    add_node(kubectl, "small", "NVIDIA-A10G", 4)
    operator.start()
    inspect(kubectl)
    await_phase(kubectl, "Merging")
    command = [str(Path(sys.executable).with_name("ftm")), "explain", "support-bot", "-n", NAMESPACE]
    environment = {**os.environ, "KUBECONFIG": str(operator.control_plane.kubeconfig)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "  accelerators            2 x NVIDIA-A10G (nvidia.com/gpu) for each replica\n" in told
    assert "  NVIDIA-A10G, 1             Memory: each GPU needs 22.60 GiB" in told
    read = subprocess.run([*command, "-o", "json"], env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(read)["memory"]["weights"] == get(kubectl)["status"]["plan"]["memory"]["weights"]


def test_a_pool_that_is_too_small_stalls_with_the_numbers_and_a_new_node_helps(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    add_node(kubectl, "one", "NVIDIA-A10G", 1)
    operator.start()
    kubelet = inspect(kubectl)
    failed = await_phase(kubectl, "Failed")
    stalled = next(each for each in failed["status"]["conditions"] if each["type"] == "Stalled")
    assert stalled["reason"] == "Memory"
    assert "each GPU needs 22.60 GiB" in stalled["message"]
    assert "set spec.serving.maxModelLen to at most that" in stalled["message"]
    assert not kubectl.list("jobs", "-l", "ftm.dev/step=merge")
    add_node(kubectl, "two", "NVIDIA-A10G", 2)
    build(kubelet)
    _, engine = container(kubectl)
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert flag(engine["args"], "--tensor-parallel-size") == "2"


def test_a_declared_kind_counts_though_no_node_is_there(kubectl: Kubectl, operator: OperatorProcess) -> None:
    operator.environment["FTM_ACCELERATORS"] = json.dumps(DECLARED)
    operator.start()
    build(inspect(kubectl))
    pod, engine = container(kubectl)
    assert get(kubectl)["status"]["plan"]["acceleratorClass"] == "H200"
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}


def test_what_serves_stays_where_it_is_when_other_gpus_come_and_its_own_go(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    add_node(kubectl, "first", "NVIDIA-A10G", 2)
    operator.start()
    kubelet = inspect(kubectl)
    build(kubelet)
    kubelet.ready()
    await_phase(kubectl, "Ready")
    before = kubectl.get("deployment", "support-bot")["metadata"]["generation"]
    add_node(kubectl, "second", "NVIDIA-H100-80GB-HBM3", 8)
    kubectl("delete", "node", "first")
    operator.kill()
    operator.start()
    kubectl("annotate", "finetunedmodel", "support-bot", "example.test/note=looked-at-again")
    kubectl("patch", "finetunedmodel", "support-bot", "--type=merge", "-p", '{"spec": {"serving": {"env": []}}}')
    found = await_phase(kubectl, "Ready")
    assert found["status"]["plan"]["acceleratorClass"] == "NVIDIA-A10G"
    assert kubectl.get("deployment", "support-bot")["metadata"]["generation"] == before


def test_without_any_known_gpu_the_plan_says_that_it_is_not_sized(kubectl: Kubectl, operator: OperatorProcess) -> None:
    operator.start()
    inspect(kubectl)
    plan = await_phase(kubectl, "Merging")["status"]["plan"]
    assert plan["gpus"] == 1
    assert [reason for reason in plan["reasons"] if reason.startswith("not sized: no kind of GPU is known")]
