"""Defines the record of a step: its condition, its reasons, its input hash, its command and its result. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import Verification
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Artifacts, FineTunedModel, FineTunedModelStatus, Phase
from ftm_operator.planning.input_hashes import REFRESH_ANNOTATION
from ftm_operator.planning.plan import Planned
from ftm_operator.steps.source import SourceArgument

MOST_NOTES_SHOWN = 3


class JobImage(StrEnum):
    """The images of Jobs, which differ because the pins of their libraries cannot coexist."""

    JOBS = "jobs"
    MERGE = "merge"
    GGUF = "gguf"
    AWQ = "awq"
    COMPRESSOR = "compressor"


@dataclass(frozen=True)
class JobNeeds:
    """The resources that a step asks of the machine that it runs on."""

    cpu: str
    memory_bytes: int
    memory_limit_bytes: int
    least_memory_bytes: int = 0
    """Memory that the step cannot run without; 0 where that is not known."""
    disk_bytes: int = 0
    """Local disk; 0 where the step writes none."""


@dataclass(frozen=True)
class StepCommand:
    """A command line of `python -m ftm_jobs`, and what must be there for it to run."""

    step: str
    arguments: tuple[str, ...]
    """The command and its arguments, but for the store and the report."""
    reads: tuple[SourceArgument, ...]
    image: JobImage
    needs: JobNeeds
    store: SourceArgument | None = None
    """The store that the step writes an artifact to, if it writes one."""

    @property
    def words(self) -> tuple[str, ...]:
        """Returns the whole command line, but for where the report goes."""
        return (*self.arguments, *(("--artifacts", self.store.argument()) if self.store else ()))

    @property
    def sources(self) -> tuple[SourceArgument, ...]:
        """Returns everything that is read or written."""
        return (*self.reads, *((replace(self.store, writable=True),) if self.store else ()))


@dataclass(frozen=True)
class StepResult:
    """The yield of a step, as later steps and status need it."""

    input_hash: str = ""
    facts: Facts | None = None
    artifact: Artifact | None = None
    notes: tuple[str, ...] = ()
    """Remarks for people, on the sources or on the artifact."""
    verification: Verification | None = None
    reference: Artifact | None = None
    """The verification's figures for engines that serve."""
    image: str | None = None
    """The model that is served as an OCI image, by its digest."""
    skipped: bool = False
    """The plan does without the step."""
    message: str = ""
    """The message of the condition Ready once every step is done; the last step's counts."""


@dataclass(frozen=True)
class StepInputs:
    """The inputs of a step: the resource, the artifact store, and the results of the steps before it."""

    model: FineTunedModel
    store: SourceArgument
    results: Mapping[str, StepResult] = field(default_factory=dict)
    """By the names of the steps that are done."""
    planned: Planned | None = None
    """The plan, once there are facts."""

    @property
    def refresh(self) -> str | None:
        return self.model.metadata.annotations.get(REFRESH_ANNOTATION)

    @property
    def facts(self) -> Facts | None:
        """Returns the facts that a step yielded, if one has."""
        return next((result.facts for result in self.results.values() if result.facts), None)

    @property
    def inspected_facts(self) -> Facts:
        """Returns the facts, for the steps after the inspection."""
        assert self.facts
        return self.facts

    @property
    def chosen_plan(self) -> Planned:
        """Returns the plan, for the steps after the inspection."""
        assert self.planned
        return self.planned

    @property
    def merges(self) -> bool:
        """Returns whether the adapters become part of the weights, for the steps after the inspection."""
        return self.chosen_plan.decision.merges

    @property
    def models(self) -> tuple[Artifact, ...]:
        """Returns the merged model, and the one that was quantized, as far as there are any."""
        made = (self.results.get(name, StepResult()).artifact for name in (Step.MERGE, Step.QUANTIZE))
        return tuple(artifact for artifact in made if artifact)

    def with_result(self, name: str, result: StepResult) -> "StepInputs":
        return replace(self, results={**self.results, name: result})

    def without(self, names: tuple[str, ...]) -> "StepInputs":
        """Returns the inputs without what these steps yielded."""
        return replace(self, results={name: result for name, result in self.results.items() if name not in names})


@dataclass(frozen=True)
class Verdict:
    """The state of a step's condition, by the step's result."""

    reason: str
    message: str
    good: bool = True


@dataclass(frozen=True)
class PipelineStep:
    """A step as status speaks of it."""

    name: str
    """The contract's name, which labels Jobs."""
    condition: str
    """The type of its condition."""
    phase: Phase
    """The phase of a resource that is at this step."""
    running: OperatorReason
    """The reason while it is under way."""


def always(_inputs: StepInputs) -> bool:
    return True


def of_every_model(_model: FineTunedModel) -> bool:
    return True


def if_merged(inputs: StepInputs) -> bool:
    """Tells whether a step applies that is about merged weights."""
    return inputs.merges


def no_objection(_inputs: StepInputs, _result: StepResult) -> str | None:
    return None


@dataclass(frozen=True)
class JobStep(PipelineStep):
    """A step that a Job does, or a subprocess of `ftm run`.

    `applies` and `image` may look at the resource and its plan alone, the other functions at every earlier result.
    """

    input_hash: Callable[[StepInputs], str]
    """Returns a hash of all that decides the result; with the same hash the result is kept."""
    command: Callable[[StepInputs], StepCommand]
    image: Callable[[StepInputs], JobImage]
    adopt: Callable[[Report, str], StepResult | None]
    """(report, input hash) -> the result, or None when the report lacks it."""
    kept: Callable[[FineTunedModelStatus, str, SourceArgument], StepResult | None]
    """(status, input hash, store) -> the result that status keeps for this input hash, if it does."""
    recorded: Callable[[FineTunedModelStatus, StepResult | None], FineTunedModelStatus]
    """(status, result) -> the status with the result, or without any for None."""
    verdict: Callable[[StepResult], Verdict]
    shared: bool = True
    """True where all resources that need the same result share one Job."""
    applies: Callable[[StepInputs], bool] = always
    asked: Callable[[FineTunedModel], bool] = of_every_model
    """Tells whether the spec has the step at all; without it, status has no condition of the step either."""
    runs_locally: bool = True
    """False where what the step makes is of no use to `ftm run`."""
    objection: Callable[[StepInputs, StepResult], str | None] = no_objection
    """Returns why the steps after this one must not run, if they must not."""


def with_artifacts(status: FineTunedModelStatus, **fields: object) -> FineTunedModelStatus:
    """Returns the status with these fields of `artifacts`, which is absent once all its fields are."""
    artifacts = (status.artifacts or Artifacts()).model_copy(update=fields)
    return status.model_copy(update={"artifacts": artifacts if artifacts.to_json() else None})


def is_in_store(artifact: Artifact, store: SourceArgument) -> bool:
    return artifact.uri == f"{store.uri.rstrip('/')}/{artifact.key}"


def with_notes(sentence: str, notes: tuple[str, ...]) -> str:
    """Returns a condition's message, with the first remarks; status has all of them."""
    return "; ".join((sentence, *notes[:MOST_NOTES_SHOWN]))


def artifact_sentence(artifact: Artifact) -> str:
    return f"{artifact.uri}: {artifact.files} files, {artifact.total_bytes:,} bytes, manifest {artifact.digest}"
