"""A FineTunedModel's story as tests tell it: users and the cluster act, and passes run until nothing is left to do.

    scene = scene_of(resource(quantization={"method": "AWQ"}))
    scene.reach("Quantizing")
    scene.refuse("quantize", "UnsuitableWidths", "576 columns are not a multiple of 256")
    assert scene.stalled().reason == "UnsuitableWidths"

Every act is followed by passes; `put` alone stores an object and leaves it at that.
"""

import copy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.contract.verification import Check, Verification
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.input_hashes import merged_key
from ftm_operator.settings import Settings
from tests.unit.operator.namespace import owner_of
from tests.unit.operator.objects import NAME, SETTINGS, Manifest, facts, pod_of, refusal, report, resource
from tests.unit.operator.serving import Serving

MOST_STEPS = 10


@dataclass
class Scene(Serving):
    model_facts: Facts = field(default_factory=facts)
    """The models as an inspection reports them, unless it is told otherwise."""

    def edit(self, name: str = NAME, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Changes a spec, which makes a new generation, or annotations, which do not."""
        changed = copy.deepcopy(self.resource(name))
        changed["spec"].update(spec)
        changed["metadata"]["generation"] += 0 if annotations else 1
        changed["metadata"].setdefault("annotations", {}).update(annotations or {})
        self.create(changed)

    def offer(self, gpus: tuple[AcceleratorClass, ...]) -> None:
        """Has other kinds of GPUs take the place of those that were there."""
        self.accelerators = gpus
        self.settle()

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.settle()

    def reach(self, phase: str, name: str = NAME) -> None:
        """Lets everything go well until the resource is in the phase."""
        self.settle()
        for _ in range(MOST_STEPS):
            reached = self.phase(name)
            if reached == phase:
                return
            self.advance(reached, name)
        raise AssertionError(f"{name} is {self.phase(name)} after {MOST_STEPS} steps, not {phase}")

    def advance(self, phase: str, name: str = NAME) -> None:
        """Lets the step that a phase waits for go well."""
        if phase == "Inspecting":
            self.inspect(name=name)
        elif phase == "Merging":
            self.merge()
        elif phase == "Quantizing":
            self.quantize()
        elif phase == "Verifying":
            self.verify()
        elif phase == "Publishing":
            self.publish()
        elif phase == "Deploying":
            self.answer(name=name)
        else:
            raise AssertionError(f"{name} is {phase}: {self.condition('Ready', name).message}")

    def end_job(self, step: str, report: Report | None = None, *, name: str | None = None, **terminated: Any) -> None:
        """Ends the running Job of a step as its report says, or without one."""
        self.put_ending(step, report, name=name, **terminated)
        self.settle()

    def put_ending(
        self, step: str, report: Report | None = None, *, name: str | None = None, **terminated: Any
    ) -> None:
        """Stores the end of a step's running Job; no pass follows."""
        job = self.running_job(step, name)
        done = report is not None and report.outcome is Outcome.DONE
        message = {"message": report.termination_message()} if report else {}
        self.put(pod_of(job, {"terminated": {"finishedAt": self.now.isoformat(), **message, **terminated}}))
        condition = {"type": "Complete" if done else "Failed", "status": "True", "message": "BackoffLimitExceeded"}
        conditions = [condition | {"lastTransitionTime": self.moment()}]
        self.put(job | {"status": {"conditions": conditions, "completionTime": self.moment()}})

    def refuse(self, step: str, reason: str, message: str) -> None:
        """Ends a step's Job with a refusal of its input, which no retry mends."""
        self.end_job(step, refusal(Step(step), reason, message))

    def run_out_of_memory(self, step: str) -> None:
        """Has the kernel end a step's Job."""
        self.end_job(step, reason="OOMKilled", exitCode=137)

    def inspect(self, found: Facts | None = None, name: str | None = None, notes: tuple[str, ...] = ()) -> None:
        facts = found or self.model_facts
        self.end_job("inspect", report(Step.INSPECT, "Inspected", facts=facts, notes=notes), name=name)

    def merge(self) -> Artifact:
        model = FineTunedModel.model_validate(self.resource(owner_of(self.running_job("merge"))))
        assert model.status
        assert model.status.facts
        built = self._artifact("merge", merged_key(model.spec, model.status.facts), total_bytes=271_000_000, files=7)
        self.end_job("merge", report(Step.MERGE, "Merged", artifact=built))
        return built

    def quantize(self, *notes: str) -> Artifact:
        method = self.arguments("quantize")[0]
        built = self._artifact("quantize", f"{method}-{'1' * 32}", total_bytes=90_000_000, files=1)
        self.end_job("quantize", report(Step.QUANTIZE, "Quantized", artifact=built, notes=notes))
        return built

    def verify(self, *failed: str) -> Artifact:
        """Ends the measurement with every check passed but those named."""
        built = self._artifact("verify", f"verify-{'2' * 32}", total_bytes=9_000, files=2)
        checks = tuple(_check(name, passed=name not in failed) for name in ("MergeAgrees", "QuantizedDivergence"))
        verification = Verification(passed=not failed, checks=checks)
        reason = "VerificationFailed" if failed else "Verified"
        self.end_job("verify", report(Step.VERIFY, reason, artifact=built, verification=verification))
        return built

    def publish(self) -> str:
        """Ends the push of what is to be served, and returns its image."""
        image = f"{self.argument('publish', '--to')}@sha256:{'3' * 64}"
        self.end_job("publish", report(Step.PUBLISH, "Published", image=image))
        return image

    def _artifact(self, step: str, key: str, *, total_bytes: int, files: int) -> Artifact:
        store = self.argument(step, "--artifacts").split(",")[0]
        return Artifact(key=key, uri=f"{store}/{key}", digest=f"sha256:{key}", total_bytes=total_bytes, files=files)

    def log(self, step: str, line: str) -> None:
        """Has the running pod of a step log how far it is."""
        self.progress[f"{self.running_job(step)['metadata']['name']}-0"] = line
        self.settle()


def scene_of(
    *resources: Manifest,
    settings: Settings = SETTINGS,
    found: Facts | None = None,
    gpus: tuple[AcceleratorClass, ...] = (),
    several_nodes: bool = False,
) -> Scene:
    """Returns a namespace whose resources have just been applied."""
    made = Scene(settings=settings, model_facts=found or facts(), accelerators=gpus, several_nodes=several_nodes)
    for item in resources or (resource(),):
        made.put(item)
    made.settle()
    return made


def serving() -> Scene:
    """Returns the smallest model, served."""
    scene = scene_of()
    scene.reach("Ready")
    return scene


def _check(name: str, *, passed: bool) -> Check:
    return Check(name=name, value=0.01 if passed else 0.5, bound=0.2, unit="nats/token", passed=passed)
