"""Questions that tests ask about a namespace: conditions, plans, command lines, and the logs that are awaited."""

from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.reconcile.engine_feedback import EngineLog
from tests.unit.operator.kstatus import violations
from tests.unit.operator.namespace import Namespace
from tests.unit.operator.objects import NAME, Manifest


@dataclass(frozen=True)
class Condition:
    status: str
    reason: str
    message: str
    since: str


class Questions(Namespace):
    """A namespace that answers what a test asks; it changes nothing."""

    def status(self, name: str = NAME) -> Manifest:
        found: Manifest = self.resource(name)["status"]
        return found

    def phase(self, name: str = NAME) -> str:
        return str(self.status(name)["phase"])

    def plan(self, name: str = NAME) -> Manifest:
        planned: Manifest = self.status(name)["plan"]
        return planned

    def conditions(self, name: str = NAME) -> Mapping[str, Condition]:
        stored = self.resource(name).get("status", {}).get("conditions", [])
        return {
            each["type"]: Condition(each["status"], each["reason"], each["message"], each["lastTransitionTime"])
            for each in stored
        }

    def condition(self, kind: str, name: str = NAME) -> Condition:
        return self.conditions(name)[kind]

    def stalled(self, name: str = NAME) -> Condition:
        """Returns why the resource is stalled, after a check that its whole status keeps kstatus' rules."""
        assert not violations(self.resource(name))
        return self.condition("Stalled", name)

    def is_stalled(self, name: str = NAME) -> bool:
        return "Stalled" in self.conditions(name)

    def arguments(self, step: str, name: str | None = None) -> list[str]:
        """Returns the command line of the running Job of a step."""
        return [str(word) for word in self.container(step, name)["args"]]

    def argument(self, step: str, option: str) -> str:
        words = self.arguments(step)
        return words[words.index(option) + 1]

    def container(self, step: str, name: str | None = None) -> Manifest:
        found: Manifest = self.running_job(step, name)["spec"]["template"]["spec"]["containers"][0]
        return found

    def engine(self) -> Manifest:
        """Returns the engine's container in the Deployment."""
        found: Manifest = self.get("Deployment")["spec"]["template"]["spec"]["containers"][0]
        return found

    def groups(self) -> Manifest:
        return self.get("LeaderWorkerSet", f"{NAME}-nodes")

    def followed(self, name: str = NAME) -> str | None:
        """Returns the pod whose log the resource wants read for its progress."""
        pod = self.once(name).effects.progress_pod
        return pod.name if pod else None

    def awaited_log(self) -> EngineLog | None:
        """Returns the engine's log that the resource wants read."""
        return self.once().effects.engine_log
