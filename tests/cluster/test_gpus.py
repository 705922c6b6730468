"""The GPUs that there are decide how a model is placed: the operator against a real API server with nodes that say so.

The nodes are objects that no kubelet stands behind; what the operator reads of them is what GPU feature discovery, the
device plugin and a DRA driver write.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.log_server import LogNode, log_node
from tests.cluster.operator_process import OperatorProcess, prepared
from tests.unit.operator.objects import adapter_facts, merged_report, report, resource, verified_report
from tests.unit.operator.planning.catalogue import base_facts_of

NAMESPACE = "gpu-test"
MEASUREMENTS = "ftm-measurements"
STARTED = """\
(Worker_TP0 pid=93) INFO 11-23 05:01:58 [gpu_model_runner.py:5149] Model loading took 6.75 GiB memory and 3.2 seconds
(Worker_TP0 pid=93) INFO 11-23 05:02:05 [gpu_worker.py:759] Available KV cache memory: 11.50 GiB
(EngineCore pid=61) INFO 11-23 05:02:06 [kv_cache_utils.py:2327] GPU KV cache size: 188,416 tokens, \
Maximum concurrency for 8,192 tokens per request: 23.00x
"""
TOO_LITTLE = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (0.5 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (0.25 GiB)."
)
SERVERS_LAST_WORDS = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
MIB = {"NVIDIA-A10G": 23028, "NVIDIA-H100-80GB-HBM3": 81559, "Tesla-T4": 15360}
MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
DECLARED = [{"name": "H200", "perNode": 8, "nodes": 2, "product": "NVIDIA-H200"}]


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    prepared(control_plane, NAMESPACE)
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("gpus"), resync_seconds=20.0)
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
    inside("delete", "nodes,resourceslices", "-l", "example.test/pool")
    inside("delete", "configmap", MEASUREMENTS, "--ignore-not-found")
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
    assert "  NVIDIA-A10G, 1             Memory: each GPU needs 23.96 GiB" in told
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
    assert "each GPU needs 23.96 GiB" in stalled["message"]
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


def publish(kubectl: Kubectl, node: str, product: str, gpus: int) -> None:
    """Writes what a DRA driver does for a node."""
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {"productName": {"string": product}, "type": {"string": "gpu"}},
            "capacity": {"memory": {"value": f"{MIB[product]}Mi"}},
        }
        for number in range(gpus)
    ]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    kubectl.apply(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-gpus", "labels": {"example.test/pool": "gpus"}},
            "spec": {"driver": "gpu.nvidia.com", "nodeName": node, "pool": pool, "devices": devices},
        }
    )


def test_published_gpus_are_claimed_by_the_memory_that_is_needed(kubectl: Kubectl, operator: OperatorProcess) -> None:
    publish(kubectl, "dynamic", "NVIDIA-A10G", 4)
    operator.start()
    build(inspect(kubectl, accelerator={"allocation": "DynamicResources"}))
    pod, engine = container(kubectl)
    assert engine["resources"]["claims"] == [{"name": "gpus"}]
    assert "nvidia.com/gpu" not in engine["resources"].get("limits", {})
    claim = eventually("a ResourceClaim of a pod", lambda: next(iter(kubectl.list("resourceclaims")), None))
    (asked,) = claim["spec"]["devices"]["requests"]
    assert (asked["exactly"]["deviceClassName"], asked["exactly"]["count"]) == ("gpu.nvidia.com", 2)
    (selector,) = asked["exactly"]["selectors"]
    assert selector["cel"]["expression"] == get(kubectl)["status"]["plan"]["deviceSelector"]
    (used,) = pod["resourceClaims"]
    kubectl("delete", "resourceclaimtemplate", used["resourceClaimTemplateName"])
    kubectl("delete", "pods", "-l", "ftm.dev/step=serve", "--force")
    eventually("the template is there again", lambda: kubectl.list("resourceclaimtemplates"))


def test_without_any_known_gpu_the_plan_says_that_it_is_not_sized(kubectl: Kubectl, operator: OperatorProcess) -> None:
    operator.start()
    inspect(kubectl)
    plan = await_phase(kubectl, "Merging")["status"]["plan"]
    assert plan["gpus"] == 1
    assert [reason for reason in plan["reasons"] if reason.startswith("not sized: no kind of GPU is known")]


@pytest.fixture
def engine_node(kubectl: Kubectl, control_plane: ControlPlane) -> Iterator[LogNode]:
    """Four A10Gs, and a node that answers for the logs of the pods that a test binds to it."""
    if control_plane.authority is None:
        pytest.skip("the API server trusts no node of ours, so nothing here can answer for a pod's log")
    add_node(kubectl, "gpus", "NVIDIA-A10G", 4)
    with log_node(kubectl, control_plane.authority, "engine-node") as node:
        yield node


def measurements(kubectl: Kubectl) -> list[dict[str, Any]]:
    return [json.loads(text) for text in kubectl.get("configmap", MEASUREMENTS)["data"].values()]


def test_what_the_engine_measured_is_read_once_and_outlives_the_model(
    kubectl: Kubectl, operator: OperatorProcess, engine_node: LogNode
) -> None:
    engine_node.line = STARTED
    operator.start()
    kubelet = inspect(kubectl)
    build(kubelet)
    pod = kubelet.starts()
    engine_node.bind(pod)
    kubelet.ready()
    await_phase(kubectl, "Ready")
    measured = eventually("measured", lambda: get(kubectl)["status"]["plan"].get("measured"))
    plan = get(kubectl)["status"]["plan"]
    assert (measured["kvCacheTokens"], measured["maxConcurrency"]) == (188_416, 23.0)
    assert (measured["kvCacheBytes"], measured["weightBytes"]) == (round(11.5 * 2**30), round(6.75 * 2**30))
    (kept,) = measurements(kubectl)
    assert (kept["accelerator"], kept["tensor_parallel"], kept["engine"]) == ("NVIDIA-A10G", 2, "vllm:test")
    assert (kept["estimated_bytes"], kept["measured_bytes"]) == (plan["memory"]["kvCache"], measured["kvCacheBytes"])
    writes = len(operator.control_plane.audit(operator.user))
    kubectl("annotate", "finetunedmodel", "support-bot", "example.test/note=looked-at-again")
    time.sleep(3)
    assert len(operator.control_plane.audit(operator.user)) == writes
    assert engine_node.requests == [f"/containerLogs/{NAMESPACE}/{pod}/vllm?limitBytes=262144&timestamps=true"]
    kubectl("delete", "finetunedmodel", "support-bot", "--wait")
    operator.kill()
    operator.start()
    inspect(kubectl)
    corrected = await_phase(kubectl, "Merging")["status"]["plan"]["memory"]
    assert corrected["kvCache"] == measured["kvCacheBytes"]
    assert corrected["measuredCorrection"] == plan["memory"]["kvCache"] - measured["kvCacheBytes"]


def test_an_engine_that_lacks_memory_is_planned_anew_once_then_stalls_and_a_corrected_spec_recovers(
    kubectl: Kubectl, operator: OperatorProcess, engine_node: LogNode
) -> None:
    engine_node.line = f"{TOO_LITTLE}\nTraceback (most recent call last):\n{SERVERS_LAST_WORDS}"
    operator.start()
    kubelet = inspect(kubectl)
    build(kubelet)
    first = kubelet.starts()
    planned = get(kubectl)["status"]["plan"]
    engine_node.bind(first)
    kubelet.crash(first, SERVERS_LAST_WORDS)
    anew = eventually("a new plan", lambda: get(kubectl)["status"]["plan"].get("shortage") and get(kubectl))
    assert (planned["gpus"], anew["status"]["plan"]["gpus"]) == (2, 4)
    assert engine_node.requests == [
        f"/containerLogs/{NAMESPACE}/{first}/vllm?limitBytes=262144&previous=true&tailLines=500"
    ]
    second = kubelet.starts()
    kubelet.crash(second, TOO_LITTLE)
    failed = await_phase(kubectl, "Failed")["status"]
    stalled = next(each for each in failed["conditions"] if each["type"] == "Stalled")
    assert stalled["reason"] == "EngineOutOfMemory"
    reckoned = failed["plan"]["memory"]["kvCache"] / 2**30
    assert stalled["message"].startswith(
        f"vLLM found 0.25 GiB for the KV cache on each NVIDIA-A10G where {reckoned:.2f} GiB were planned; set "
    )
    assert {each["tensor_parallel"] for each in measurements(kubectl)} == {2, 4}
    asked = {"spec": {"serving": {"maxModelLen": 256, "concurrency": 1}}}
    kubectl("patch", "finetunedmodel", "support-bot", "--type=merge", "-p", json.dumps(asked))
    third = kubelet.starts()
    assert third not in (first, second)
    kubelet.answers(third)
    await_phase(kubectl, "Ready")
