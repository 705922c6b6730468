"""An hour of a cluster that misbehaves, compressed into a minute or two, with its API calls counted.

Four models, two of which share their artifacts, while quotas come and go, a policy rewrites pods, nodes lose their
GPUs, people edit, scale and delete children, and the operator is killed. All end served; then nothing is written.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from tests.cluster.admission import tolerations_added
from tests.cluster.control_plane import COUNTED_USER, WRITES, ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import Kubelet, eventually, get
from tests.cluster.operator_process import OperatorProcess, operator_process
from tests.cluster.progress import say
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import adapter_facts, base_facts, merged_report, report, resource, verified_report

pytestmark = pytest.mark.timeout(900)
NAMESPACE = "busy-hour"
SOURCES = {"support-a": "shared", "support-b": "shared", "billing": "billing", "legal": "legal"}
"""The models, and their bases; models of one base share every artifact."""
ROUNDS, SEED = 2, 7
"""Each disturbance comes once in each round."""
PAUSE_SECONDS = 0.5
QUIET_SECONDS = 12
MOST_WRITES = 8
"""The operator's writes for each disturbance, on average: a step's Job, its Event and two statuses are four."""
NODE = "busy-node"
TOLERANT = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    made = resource(name, base={"uri": f"s3://models/{SOURCES[name]}"}, **{"serving": TOLERANT, **spec})
    return {**made, "metadata": {"name": name, "namespace": NAMESPACE}}


def facts_of(name: str) -> Facts:
    source = SOURCES[name]
    base = base_facts(uri=f"s3://models/{source}", digest=f"sha256:{source}")
    return Facts(base=base, adapters=(adapter_facts(),))


@dataclass
class WholeKubelet(Kubelet):
    """Runs every pod of the namespace as soon as it is there."""

    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running_all(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()

    def _run(self) -> None:
        while not self.ended.wait(0.2):
            for pod in self.kubectl.list("pods", "-l", "app.kubernetes.io/managed-by=ftm-operator"):
                if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                    self._run_one(pod["metadata"]["name"], pod["metadata"]["labels"])

    def _run_one(self, pod: str, labels: dict[str, str]) -> None:
        step = labels["ftm.dev/step"]
        try:
            if step == "serve":
                self.answers(pod)
            else:
                self.ends(pod, step, _told(step, facts_of(labels["ftm.dev/name"])))
        except KubectlError as error:
            if "not found" not in str(error):
                raise


def _told(step: str, facts: Facts) -> Report:
    match step:
        case "inspect":
            return report(Step.INSPECT, "Inspected", facts=facts)
        case "merge":
            return merged_report(facts)
        case _:
            return verified_report()


@dataclass(frozen=True)
class Disturber:
    """Does what nodes, quotas and people do to a namespace; each method is one disturbance of a model."""

    kubectl: Kubectl
    operator: OperatorProcess
    chance: random.Random

    def disturb(self) -> Iterator[str]:
        """Does each of them once, in some order, and yields what it did."""
        ways = [name for name in vars(type(self)) if name.startswith(("a_", "an_"))]
        for way in self.chance.sample(ways, len(ways)):
            name = self.chance.choice(sorted(SOURCES))
            try:
                getattr(self, way)(name)
            except KubectlError as error:
                if "not found" not in str(error):  # as while the child is on its way, or after an earlier disturbance
                    raise
            yield f"{way.replace('_', ' ')} ({name})"

    def a_quota_comes(self, _: str) -> None:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-jobs"}}
        self.kubectl.apply({**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})

    def a_quota_goes(self, _: str) -> None:
        self.kubectl.delete("resourcequota", "no-jobs")

    def a_node_loses_its_gpus(self, _: str) -> None:
        give_gpus(self.kubectl, 0)

    def a_node_has_its_gpus_again(self, _: str) -> None:
        give_gpus(self.kubectl, 8)

    def a_node_is_cordoned(self, _: str) -> None:
        self.kubectl("cordon", NODE)

    def a_node_is_uncordoned(self, _: str) -> None:
        self.kubectl("uncordon", NODE)

    def a_deployment_is_scaled(self, name: str) -> None:
        self.kubectl("scale", "deployment", name, f"--replicas={self.chance.randint(0, 3)}")

    def a_model_is_scaled(self, name: str) -> None:
        self.kubectl("scale", "finetunedmodel", name, f"--replicas={self.chance.randint(0, 3)}")

    def a_variable_is_set(self, name: str) -> None:
        self.kubectl("set", "env", f"deployment/{name}", f"SET={self.chance.random()}")

    def a_deployment_is_deleted(self, name: str) -> None:
        self.kubectl("delete", "deployment", name)

    def a_service_is_deleted(self, name: str) -> None:
        self.kubectl("delete", "service", name)

    def a_service_is_edited(self, name: str) -> None:
        ports = {"spec": {"ports": [{"port": 80, "targetPort": 1, "name": "http"}]}}
        self.kubectl("patch", "service", name, "-p", json.dumps(ports))

    def a_labels_edit(self, name: str) -> None:
        self.kubectl("label", "deployment", name, "app.kubernetes.io/name=edited", "--overwrite")

    def a_loss_of_all_jobs(self, _: str) -> None:
        self.kubectl("delete", "jobs", "--all", "--wait=false")

    def a_loss_of_all_pods(self, _: str) -> None:
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")

    def a_prompt_with_an_emoji(self, name: str) -> None:
        prompts = [{"prompt": f"Who are you? 🤖 {self.chance.randint(0, 9)}"}]
        self.kubectl.apply(manifest(name, verification={"prompts": prompts}))

    def a_split_over_seven(self, name: str) -> None:
        self.kubectl.apply(manifest(name, serving={**TOLERANT, "tensorParallelSize": 7}))

    def a_suspension(self, name: str) -> None:
        self.kubectl.apply(manifest(name, suspend=True))

    def an_orphaning(self, name: str) -> None:
        self.kubectl("delete", "finetunedmodel", name, "--cascade=orphan", "--wait")
        self.kubectl.apply(manifest(name))

    def a_kill_of_the_operator(self, _: str) -> None:
        self.operator.kill()
        self.operator.start()


def give_gpus(kubectl: Kubectl, number: int) -> None:
    amounts = {"nvidia.com/gpu": str(number), "cpu": "64", "memory": "512Gi", "pods": "110"}
    patch = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
    kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with operator_process(control_plane, NAMESPACE, folder, resync_seconds=5.0) as process:
        assert process.user == COUNTED_USER
        labels = {"nvidia.com/gpu.product": "NVIDIA-A10G", "nvidia.com/gpu.memory": "23028"}
        admin = control_plane.kubectl
        admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}})
        give_gpus(admin, 8)
        process.start()
        yield process
        admin("delete", "node", NODE)


def test_an_hour_of_disturbances_ends_served_and_then_nothing_is_written(operator: OperatorProcess) -> None:
    kubectl = operator.control_plane.kubectl.within(NAMESPACE)
    disturber = Disturber(kubectl, operator, random.Random(SEED))
    with WholeKubelet(kubectl).running_all():
        with tolerations_added(kubectl):
            kubectl.apply(*(manifest(name) for name in SOURCES))
            await_served(kubectl)
            before, disturbances = len(operator.control_plane.audit(operator.user)), 0
            for done in chain.from_iterable(disturber.disturb() for _ in range(ROUNDS)):
                disturbances += 1
                say(done)
                found = kubectl.list("finetunedmodels")
                assert not [each for each in found if is_current(each) and violations(each)]
                time.sleep(PAUSE_SECONDS)
            disturber.a_quota_goes("")
            disturber.a_node_has_its_gpus_again("")
            disturber.a_node_is_uncordoned("")
            kubectl.apply(*(manifest(name, suspend=False) for name in SOURCES))
            await_served(kubectl)
        busy = requests(operator, before)
        quiet_from = settled(operator)
        time.sleep(QUIET_SECONDS)
        quiet = requests(operator, quiet_from)
    say(json.dumps({"disturbances": disturbances, "busy": busy, "quiet_seconds": QUIET_SECONDS, "quiet": quiet}))
    assert not quiet.keys() & set(WRITES)
    assert sum(busy[verb] for verb in WRITES) <= MOST_WRITES * disturbances
    assert {each["status"]["phase"] for each in kubectl.list("finetunedmodels")} == {"Ready"}


def await_served(kubectl: Kubectl) -> None:
    def served(model: dict[str, Any]) -> bool:
        return is_current(model) and model["status"].get("phase") == "Ready"

    try:
        eventually("all are served", lambda: all(served(get(kubectl, name)) for name in SOURCES))
    except AssertionError:
        say(kubectl("get", "finetunedmodels,jobs,deployments,pods", "-o", "wide"))
        raise


def is_current(model: dict[str, Any]) -> bool:
    return bool(model["status"]["observedGeneration"] == model["metadata"]["generation"])


def requests(operator: OperatorProcess, since: int) -> Counter[str]:
    """The operator's requests by their verb, without those for its Lease."""
    return Counter(each["verb"] for each in operator.control_plane.audit(operator.user)[since:])


def settled(operator: OperatorProcess) -> int:
    """The number of requests so far, once a full list has passed in which nothing was written."""

    def written() -> int:
        return sum(requests(operator, 0)[verb] for verb in WRITES)

    def still() -> int | None:
        before = written()
        time.sleep(operator.resync_seconds + 1)
        return len(operator.control_plane.audit(operator.user)) if written() == before else None

    return eventually("nothing is written any more", still)
