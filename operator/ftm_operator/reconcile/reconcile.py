"""What to do next for one FineTunedModel: (resource, what was observed, now) -> actions and status. Pure.

The steps run in order: inspect, plan, merge, quantize, verify, serve. Each yields what it found, or a Hold that says
why the later steps cannot run yet. Nothing that serves is touched before its successor is built and verified. What a
step yielded is kept in status, so its Job may go; status is summarised once, at the end, by `summary`.

Invariants
- the same resource, observation and time give the same result; a state that is as wanted gives no action;
- spec is never written; a child is applied only when it is absent or differs, and then in full;
- a finished artifact is built again only when its key or its store changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import Verification
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.reasons import Reason
from ftm_operator.api.status import readable
from ftm_operator.api.v1alpha1 import FineTunedModel, FineTunedModelStatus, Measured, Phase, Plan, Shortage
from ftm_operator.observe.drift import difference
from ftm_operator.observe.job_state import Due, Running, State, finished, job_state
from ftm_operator.observe.rollout import RollingOut, rollout
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.feedback.measurements import Measurement
from ftm_operator.planning.input_hashes import (
    REFRESH_ANNOTATION,
    inspection_input_hash,
    merged_key,
    plan_input_hash,
    quantization_input_hash,
    verification_input_hash,
)
from ftm_operator.planning.plan import Planned, again
from ftm_operator.planning.plan import plan as make_plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.reconcile import engine_feedback as feedback
from ftm_operator.reconcile.holds import incomplete, name_taken, report_or_hold
from ftm_operator.reconcile.passes import Apply, Delete, Observed, Result, owned_serving, serving_children
from ftm_operator.reconcile.summary import Hold, Progress, failed_checks, invalid_status, notices, summarise
from ftm_operator.resources.deployment import deployment as build_deployment
from ftm_operator.resources.job import (
    artifacts_source,
    build_id,
    inspect_job,
    may_have_more_memory,
    merge_job,
    quantize_job,
    verify_job,
)
from ftm_operator.resources.leader_worker_set import leader_worker_set as build_groups
from ftm_operator.resources.metadata import ARTIFACT, INSPECTION, NAME, STEP, Manifest, owned_by
from ftm_operator.resources.pod import Source
from ftm_operator.resources.resource_claim import claims_devices, lacks_claim
from ftm_operator.resources.resource_claim import template as claim_template
from ftm_operator.resources.service import service as build_service
from ftm_operator.settings import Settings

FINISHED_JOBS_KEPT = 3
"""Per step and resource: their logs may still be wanted."""


def reconcile(observed: Observed, settings: Settings, now: datetime) -> Result:
    """One pass. Raises nothing for any resource that an API server can hold."""
    resource = observed.resource
    if resource["metadata"].get("deletionTimestamp"):
        return Result()
    before = FineTunedModelStatus.model_validate(readable(resource.get("status") or {}))
    try:
        model = parse(FineTunedModel, resource)
    except InvalidManifest as error:
        status = invalid_status(before, resource["metadata"].get("generation", 0), str(error), now)
        return _result(resource, before, status, [], None, None)
    run = _Pass(model, before, observed, settings, now)
    hold = run.hold()
    status = summarise(model, before, run.progress, hold, owned_serving(observed, model), now)
    run.prune()
    result = _result(resource, before, status, run.actions, hold, run.waits_for)
    return replace(result, follows=run.follows, listens=run.listens, measurements=tuple(run.measurements))


def _result(
    resource: Manifest,
    before: FineTunedModelStatus,
    status: FineTunedModelStatus,
    actions: list[Apply | Delete],
    hold: Hold | None,
    waits_for: str | None,
) -> Result:
    written = status.to_json()
    return Result(
        actions=tuple(actions),
        status=None if written == resource.get("status") else written,
        notices=notices(before, status),
        retry_after=hold.retry_after if hold else None,
        waits_for=waits_for,
    )


JobBuilder = Callable[..., Manifest]
"""(attempt, more_memory) -> the Job."""


@dataclass(frozen=True)
class _Work:
    """How a step whose result is shared is spoken of."""

    step: Step
    phase: Phase
    reason: Reason
    doing: str


_MERGE = _Work(Step.MERGE, "Merging", Reason.MERGING, "merging")
_QUANTIZE = _Work(Step.QUANTIZE, "Quantizing", Reason.QUANTIZING, "quantizing")
_VERIFY = _Work(Step.VERIFY, "Verifying", Reason.VERIFYING, "verifying")


@dataclass
class _Pass:
    """The steps of one pass, and what they gathered on the way."""

    model: FineTunedModel
    before: FineTunedModelStatus
    observed: Observed
    settings: Settings
    now: datetime
    actions: list[Apply | Delete] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    waits_for: str | None = None
    follows: str | None = None
    listens: feedback.EngineLog | None = None
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def _name(self) -> str:
        return self.model.metadata.name

    @property
    def _refresh(self) -> str | None:
        return self.model.metadata.annotations.get(REFRESH_ANNOTATION)

    def hold(self) -> Hold | None:
        """Why the resource is not served as its spec says; None when it is."""
        model = self.model
        if model.spec.suspend:
            return Hold("Suspended", Reason.SUSPENDED, "spec.suspend is true: nothing is built or rolled out")
        artifacts = artifacts_source(model, self.settings)
        if artifacts is None:
            return Hold(
                "Failed",
                Reason.NO_ARTIFACT_STORE,
                "spec.artifacts is not set and the operator has no default store; set spec.artifacts.uri",
                stalled=True,
            )
        if isinstance(facts := self._inspected(), Hold):
            return facts
        if isinstance(planned := self._planned(facts), Hold):
            return planned
        if isinstance(merged := self._merged(facts, artifacts), Hold):
            return merged
        if isinstance(built := self._quantized(planned.decision, merged, artifacts), Hold):
            return built
        if hold := self._verified(facts, built, artifacts):
            return hold
        return self._served(facts, planned.plan, built[-1], artifacts.secret_name)

    def _inspected(self) -> Facts | Hold:
        model, before = self.model, self.before
        key = inspection_input_hash(model.spec, self._refresh)
        self.progress.inspection = key
        if before.sources and before.sources.input_hash == key and before.facts:
            self.progress.facts = before.facts
            return before.facts
        state = self._state(INSPECTION, key, Step.INSPECT)
        if isinstance(state, Due):
            self._create(inspect_job(model, key, state.attempt, self.settings, more_memory=state.more_memory))
        report = report_or_hold(state, "Inspecting", Reason.INSPECTING)
        if isinstance(report, Hold):
            return report
        if report.facts is None:
            return incomplete(Step.INSPECT)
        self.progress.facts = report.facts
        return report.facts

    def _planned(self, facts: Facts) -> Planned | Hold:
        by = plan_input_hash(self.model.spec, facts, self._refresh)
        planned = self._kept_plan(by, facts) or self._new_plan(by, facts)
        if isinstance(planned, Rejection):
            return Hold("Failed", planned.rule, planned.reason, stalled=True)
        self.progress.plan = planned.plan.model_copy(update={"input_hash": by})
        return replace(planned, plan=self.progress.plan)

    def _kept_plan(self, by: str, facts: Facts) -> Planned | None:
        """What was planned from the same: GPUs that come and go move nothing that serves, or that may be placed."""
        known, gpus = self.before.plan, {each.name for each in self.observed.accelerators}
        if known is None or known.input_hash != by or not (gpus or known.accelerator_class):
            return None
        unplaced = not self.before.ready_replicas and known.accelerator_class not in gpus
        if unplaced or (known.nodes and not self.observed.several_nodes):
            return None
        return again(self.model.spec, facts, known)

    def _new_plan(self, by: str, facts: Facts, lacked: Shortage | None = None) -> Planned | Rejection:
        """Corrected by what engines measured, and by the failed start that it answers, or that one before it did."""
        known = self.before.plan
        answered = lacked or (known.shortage if known and known.input_hash == by else None)
        corrections = feedback.known_corrections(
            self.model.spec,
            facts,
            self.before.artifacts,
            self.observed.measurements,
            self.settings.vllm_image,
            answered,
        )
        gpus, spread = self.observed.accelerators, self.observed.several_nodes
        planned = make_plan(self._name, self.model.spec, facts, gpus, several_nodes=spread, corrections=corrections)
        if answered and isinstance(planned, Planned):
            return replace(planned, plan=planned.plan.model_copy(update={"shortage": answered}))
        return planned

    def _merged(self, facts: Facts, store: Source) -> Artifact | Hold:
        key = merged_key(self.model.spec, facts)
        known = self.before.artifacts.merged if self.before.artifacts else None
        if known and known.uri == f"{store.uri.rstrip('/')}/{key}":
            self.progress.merged = known
            return known

        def job(attempt: int, *, more_memory: bool) -> Manifest:
            return merge_job(self.model, facts, store, key, attempt, self.settings, more_memory=more_memory)

        report = self._build(_MERGE, build_id(key, store.uri), job)
        if isinstance(report, Hold):
            return report
        self.progress.merged = report.artifact
        return report.artifact or incomplete(Step.MERGE)

    def _quantized(self, decision: Decision, merged: Artifact, store: Source) -> tuple[Artifact, ...] | Hold:
        """The merged model, and what was quantized from it, if anything is to be."""
        if not decision.quantizes:
            self.progress.not_quantized = True
            return (merged,)
        by = quantization_input_hash(self.model.spec, decision, merged.key, self._refresh)
        known = self.before.artifacts
        if known and known.quantized and known.quantized_input_hash == by and _is_in(known.quantized, store):
            self.progress.quantized, self.progress.quantized_input_hash = known.quantized, by
            self.progress.notes = known.notes
            return merged, known.quantized
        identity = build_id(by, store.uri)

        def job(attempt: int, *, more_memory: bool) -> Manifest:
            return quantize_job(
                self.model, decision, merged, store, identity, attempt, self.settings, more_memory=more_memory
            )

        report = self._build(_QUANTIZE, identity, job)
        if isinstance(report, Hold):
            return report
        if report.artifact is None:
            return incomplete(Step.QUANTIZE)
        self.progress.quantized, self.progress.quantized_input_hash = report.artifact, by
        self.progress.notes = report.notes
        return merged, report.artifact

    def _verified(self, facts: Facts, built: tuple[Artifact, ...], store: Source) -> Hold | None:
        """Why what was built is not to be rolled out; a failed check under policy Warn is none."""
        by = verification_input_hash(self.model.spec, built, self._refresh)
        known = self.before.artifacts
        if known and known.verification and known.verified_input_hash == by:
            self.progress.report, self.progress.verified_input_hash = known.report, by
            return self._judged(known.verification)
        identity = build_id(by, store.uri)

        def job(attempt: int, *, more_memory: bool) -> Manifest:
            return verify_job(
                self.model, facts, built, store, identity, attempt, self.settings, more_memory=more_memory
            )

        report = self._build(_VERIFY, identity, job)
        if isinstance(report, Hold):
            return report
        if report.verification is None:
            return incomplete(Step.VERIFY)
        self.progress.report, self.progress.verified_input_hash = report.artifact, by
        return self._judged(report.verification)

    def _judged(self, verification: Verification) -> Hold | None:
        self.progress.verification = verification
        if verification.passed or self.model.spec.verification.policy == "Warn":
            return None
        message = f"{failed_checks(verification)}; what serves goes on serving: see `ftm report {self._name}`"
        return Hold("Failed", Reason.VERIFICATION_FAILED, message, stalled=True)

    def _build(self, work: _Work, identity: str, job: JobBuilder) -> Report | Hold:
        """The report of a step that is shared by all resources that need the same, or what it waits for."""
        state = self._state(ARTIFACT, identity, work.step)
        if isinstance(state, Due):
            self._create(job(state.attempt, more_memory=state.more_memory))
        if isinstance(state, Running):
            state = self._with_progress(state, work)
        report = report_or_hold(state, work.phase, work.reason)
        if isinstance(report, Report):
            return report
        self.waits_for = identity
        return self._naming_the_builder(report, identity)

    def _with_progress(self, state: Running, work: _Work) -> Running:
        self.follows = state.pod
        progress = self.observed.progress.get(state.pod or "")
        return replace(state, message=f"{work.doing}: {progress} ({state.message})") if progress else state

    def _served(self, facts: Facts, plan: Plan, artifact: Artifact, secret_name: str | None) -> Hold | None:
        model, build = self.model, build_groups if plan.nodes else build_deployment
        wanted = build(model, plan, facts, artifact, secret_name, self.settings)
        live, other = serving_children(self.observed, model, wanted)
        for child in (live, self.observed.service):
            if child and not owned_by(child, model):
                return name_taken(child)
        self._apply(build_service(model), self.observed.service)
        pods = self._serving_pods()
        if claims_devices(plan) and (difference(wanted, live) or lacks_claim(pods, self.now)):
            self.actions.append(Apply(claim_template(model, plan), "the pods claim their GPUs by it"))
        if self._apply(wanted, live) or live is None:
            return Hold("Deploying", Reason.ROLLING_OUT, f"the {wanted['kind']} is being applied")
        state = rollout(live, pods)
        if isinstance(state, RollingOut):
            if state.lost_at and self._forgotten(artifact, state.lost_at):
                message = f"{artifact.uri} is no longer there; it is built again"
                phase: Phase = "Quantizing" if artifact is not self.progress.merged else "Merging"
                return Hold(phase, Reason.ARTIFACT_LOST, message)
            if hold := self._out_of_memory(facts, plan, artifact, live, pods):
                return hold
            return Hold("Failed" if state.stalled else "Deploying", state.reason, state.message, state.stalled)
        self.progress.serving = state.message
        if other:
            self.actions.append(Delete(other))
        self._harvest(plan, artifact, live, pods)
        return None

    def _serving_pods(self) -> Sequence[Manifest]:
        return self.observed.pods(NAME, self._name)

    def _harvest(self, plan: Plan, artifact: Artifact, live: Manifest, pods: Sequence[Manifest]) -> None:
        """What the engine measured when it started; its log is read only as long as that is not known."""
        if feedback.is_proven(plan, live) or not (log := feedback.started(feedback.current(live, pods))):
            return
        self.listens = log
        if (heard := self.observed.heard.get(log)) and heard.measured:
            measured = heard.measured.model_copy(update={"input_hash": feedback.template_of(live)})
            self.progress.plan = plan.model_copy(update={"measured": measured})
            self._keep(plan, artifact, measured)

    def _out_of_memory(
        self, facts: Facts, plan: Plan, artifact: Artifact, live: Manifest, pods: Sequence[Manifest]
    ) -> Hold | None:
        """What becomes of an engine that did not start for lack of memory: another plan, once, or a person."""
        if feedback.is_proven(plan, live):
            return None
        self.listens, lack = feedback.failed_start(feedback.current(live, pods), self.observed.heard)
        if lack is None:
            return None
        self._keep(plan, artifact, Measured(kv_cache_bytes=lack.found_bytes))
        if not (self.observed.accelerators and feedback.can_be_planned_anew(plan, lack)):
            return feedback.out_of_memory(plan, lack)
        other = self._new_plan(str(plan.input_hash), facts, feedback.shortage(plan, lack))
        if isinstance(other, Rejection):
            return feedback.out_of_memory(plan, lack, refused=other.reason)
        if not feedback.is_another_trial(plan, other.plan):
            return feedback.out_of_memory(plan, lack)
        self.progress.plan, hold = feedback.planned_anew(plan, lack, other.plan)
        return hold

    def _keep(self, plan: Plan, artifact: Artifact, measured: Measured) -> None:
        if found := feedback.measurement(plan, artifact, self.settings.vllm_image, measured, self.now):
            self.measurements.append(found)

    def _forgotten(self, artifact: Artifact, lost_at: str) -> bool:
        """Forgets an artifact that was lost after it was last built, with the Jobs that say it is complete."""
        store = artifact.uri.rpartition("/")[0]
        if artifact is self.progress.quantized:
            identity = build_id(str(self.progress.quantized_input_hash), store)
        else:
            identity = build_id(artifact.key, store)
        jobs = [job for job in self.observed.jobs(ARTIFACT, identity) if finished(job)]
        if any(lost_at <= job["status"].get("completionTime", "") for job in jobs):
            return False
        self.actions.extend(Delete(job) for job in jobs)
        self.progress.forget(artifact)
        return True

    def _state(self, label: str, value: str, step: Step) -> State:
        jobs = [job for job in self.observed.jobs(label, value) if self._concerns_us(job, step)]
        return job_state(
            jobs,
            self.observed.pods(label, value),
            self.now,
            lambda job: owned_by(job, self.model),
            generation=self.model.metadata.generation,
            may_have_more=may_have_more_memory(self.model),
        )

    def _concerns_us(self, job: Manifest, step: Step) -> bool:
        """What is built is shared by all resources that need it; an inspection is ours alone."""
        return step is not Step.INSPECT or owned_by(job, self.model)

    def _naming_the_builder(self, hold: Hold, identity: str) -> Hold:
        jobs = self.observed.jobs(ARTIFACT, identity)
        builders = {job["metadata"]["labels"].get(NAME, "?") for job in jobs if not finished(job)}
        others = sorted(builders - {self.model.metadata.name})
        if others and not hold.stalled:
            return Hold(hold.phase, hold.reason, f"{hold.message} (shared with FineTunedModel {others[0]})")
        return hold

    def _create(self, manifest: Manifest) -> None:
        self.actions.append(Apply(manifest, "absent"))

    def _apply(self, desired: Manifest, live: Manifest | None) -> bool:
        why = difference(desired, live)
        if why:
            self.actions.append(Apply(desired, why))
        return bool(why)

    def prune(self) -> None:
        """Finished Jobs beyond the newest few of each step go; their results are in status."""
        own = [job for job in self.observed.jobs(NAME, self.model.metadata.name) if owned_by(job, self.model)]
        for step in (Step.INSPECT, Step.MERGE, Step.QUANTIZE, Step.VERIFY):
            done = [job for job in own if job["metadata"]["labels"].get(STEP) == step and finished(job)]
            done.sort(key=lambda job: (job["metadata"].get("creationTimestamp", ""), job["metadata"]["name"]))
            gone = (job for job in done[:-FINISHED_JOBS_KEPT] if "deletionTimestamp" not in job["metadata"])
            self.actions.extend(Delete(job) for job in gone)


def _is_in(artifact: Artifact, store: Source) -> bool:
    return artifact.uri == f"{store.uri.rstrip('/')}/{artifact.key}"
