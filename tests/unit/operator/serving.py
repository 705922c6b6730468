"""The part of a scene in which pods serve: replicas answer, engines log and crash, groups span nodes."""

from typing import Any

from ftm_jobs.contract.steps import Step
from ftm_operator.reconcile.engine_feedback import EngineMemory
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, refusal
from tests.unit.operator.questions import Questions

CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}


class Serving(Questions):
    """A namespace whose serving pods do what a test says."""

    def create(self, item: Manifest) -> None:
        self.put(item)
        self.settle()

    def moment(self) -> str:
        """Returns the present time as Kubernetes writes it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def answer(self, replicas: int | None = None, name: str = NAME) -> None:
        """Has so many replicas answer, all of the latest template; those that are wanted if no number is given."""
        deployment = self.cache.get("Deployment", (NAMESPACE, name))
        child = deployment or self.cache.get("LeaderWorkerSet", (NAMESPACE, f"{name}-nodes")) or {"spec": {}}
        wanted = child["spec"].get("replicas", 1) if replicas is None else replicas
        if deployment is None:
            self.groups_answer(wanted)
            return
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted),
        }
        self.create(deployment | {"status": status})

    def groups_answer(self, count: int = 1, *, leaders_ready: bool = True) -> None:
        """Has every group be of the present template, with all its pods, and its controller say that it is ready."""
        for number in range(count):
            self.group_pod("leaderTemplate", f"{number}", ready=leaders_ready)
            self.group_pod("workerTemplate", f"{number}-1", ready=True)
        status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
        self.create(self.groups() | {"status": status})

    def group_pod(self, template: str, number: str, *, ready: bool, **status: Any) -> Manifest:
        """Stores a pod of the present template; no pass follows."""
        groups = self.groups()
        made_of = groups["spec"]["leaderWorkerTemplate"][template]
        metadata = {"name": f"{groups['metadata']['name']}-{number}", "namespace": NAMESPACE, **made_of["metadata"]}
        state = {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "vllm", "ready": ready, "state": {"running": {}}}],
        }
        return self.put({"kind": "Pod", "metadata": metadata, "spec": made_of["spec"], "status": state | status})

    def serving_pod(self, state: Manifest, number: int = 0, *, ready: bool = False, **status: Any) -> None:
        """Has a pod of the Deployment, as it is now, be in a state."""
        template = self.get("Deployment")["spec"]["template"]
        made_of = template["metadata"]["annotations"]["ftm.dev/pod-template"]
        container = {"name": "vllm", "ready": ready, "state": state, **status}
        self.create(
            {
                "kind": "Pod",
                "metadata": {
                    "name": f"{NAME}-{made_of[:5]}-{number}",
                    "namespace": NAMESPACE,
                    **template["metadata"],
                },
                "spec": template["spec"],
                "status": {"containerStatuses": [container]},
            }
        )

    def engine_crashes(self, last_words: str, number: int = 0) -> None:
        """Has the engine's container end with a message, and wait to be started again."""
        self.serving_pod(CRASHED, number, lastState=ended(last_words))

    def engine_logs(self, said: EngineMemory) -> None:
        """Has the awaited log of an engine say something."""
        awaited = self.awaited_log()
        assert awaited, "no engine's log is awaited"
        self.heard[awaited] = said
        self.settle()

    def refuse_fetch(self, reason: str, message: str) -> None:
        """Has a serving pod's fetch container end with a refusal, now."""
        template = self.get("Deployment")["spec"]["template"]
        last_words = refusal(Step.FETCH, reason, message).termination_message()
        terminated = {"terminated": {"message": last_words, "finishedAt": self.moment()}}
        statuses = [{"name": "fetch", "ready": False, "state": CRASHED, "lastState": terminated}]
        pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": NAMESPACE, **template["metadata"]}}
        self.put({**pod, "status": {"initContainerStatuses": statuses}})
        self.answer(replicas=0)


def ended(last_words: str) -> Manifest:
    return {"terminated": {"exitCode": 1, "reason": "Error", "message": last_words}}
