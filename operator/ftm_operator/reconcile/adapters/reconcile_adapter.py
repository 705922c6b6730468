"""Decides what to do next for one FineTunedAdapter: (resource, what was observed, now) -> actions and status. Pure.

Its Job checks the adapter against the base of its model and keeps it as an artifact; then it is wanted, and the model's
pass tells the pods. What serves is in the pods' own answers alone. What is kept stays in status, so its Job may go.

Invariants
- the same resource, observation and time give the same result; a state that is as wanted gives no action;
- spec is never written;
- a version that serves stays wanted until its successor is kept, and loaded until that one is proven.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from ftm_jobs.contract.facts import AdapterFacts, BaseFacts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.fine_tuned_adapter import MOST_NOTES, FineTunedAdapter, FineTunedAdapterStatus, readable
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.llama_server import ENGINE as LLAMA_CPP
from ftm_operator.engines.llama_server import loads_at_start
from ftm_operator.observe.adapter_pods import answering_pods
from ftm_operator.planning.input_hashes import REFRESH_ANNOTATION, inspection_input_hash
from ftm_operator.reconcile.adapters import sentences
from ftm_operator.reconcile.adapters.admission import (
    exceeds_rank,
    has_name_of_base,
    holder_of_name,
    is_own,
    is_served_beside,
    readable_adapters,
)
from ftm_operator.reconcile.adapters.at_start import held_from_start
from ftm_operator.reconcile.adapters.holding import Holding, hold_of, holding
from ftm_operator.reconcile.adapters.observed import ObservedAdapter
from ftm_operator.reconcile.adapters.summary import AdapterOutcome, invalid_status, summarise
from ftm_operator.reconcile.holds import Hold, incomplete, no_artifact_store
from ftm_operator.reconcile.notices import news_of_ready
from ftm_operator.reconcile.passes import Effects, Result
from ftm_operator.reconcile.prune import running_jobs, spent_jobs, surplus_jobs
from ftm_operator.reconcile.refusals import refused
from ftm_operator.reconcile.step_jobs import StepJobs, run_jobs
from ftm_operator.resources.job import JobOwner, artifacts_source, own_identity
from ftm_operator.resources.metadata import NAME
from ftm_operator.settings import Settings
from ftm_operator.steps.adapter import ADAPTER, adapter_command, adapter_input_hash
from ftm_operator.steps.source import SourceArgument


@dataclass(frozen=True)
class _Context:
    """The inputs of a pass."""

    adapter: FineTunedAdapter
    model: FineTunedModel | None
    """The model that it names, if there is one that can be read."""
    before: FineTunedAdapterStatus
    observed: ObservedAdapter
    settings: Settings
    now: datetime


@dataclass(frozen=True)
class _Beside:
    """The model beside whose base the adapter is served, as far as it is planned."""

    model: FineTunedModel
    base: BaseFacts
    plan: Plan
    store: SourceArgument

    @property
    def engine(self) -> str:
        return self.plan.engine or ""


def reconcile_adapter(observed: ObservedAdapter, settings: Settings, now: datetime) -> Result:
    """Returns the result of one pass. Raises nothing for any resource that an API server can hold."""
    resource = observed.resource
    if resource["metadata"].get("deletionTimestamp"):
        return Result()
    before = FineTunedAdapterStatus.model_validate(readable(resource.get("status") or {}))
    try:
        adapter = parse(FineTunedAdapter, resource)
    except InvalidManifest as error:
        status = invalid_status(before, resource["metadata"].get("generation", 0), str(error), now)
        return _result(observed, before, status, Effects(), None)
    context = _Context(adapter, _model(observed), before, observed, settings, now)
    outcome = _with_refusals(context, _outcome(context))
    status = summarise(adapter, outcome, _holding(context, outcome.kept), context.model, now)
    status = status.model_copy(update={"managed_by": settings.installation})
    pruned = Effects(surplus_jobs(adapter, observed, (ADAPTER,)))
    return _result(observed, before, status, outcome.effects + pruned, outcome.hold)


def _result(
    observed: ObservedAdapter,
    before: FineTunedAdapterStatus,
    status: FineTunedAdapterStatus,
    effects: Effects,
    hold: Hold | None,
) -> Result:
    written = status.to_json()
    return Result(
        effects=effects,
        status=None if written == observed.resource.get("status") else written,
        notices=news_of_ready(before.conditions, status.conditions),
        retry_after=hold.retry_after if hold else None,
    )


def _outcome(context: _Context) -> AdapterOutcome:
    """Goes through what must be before the adapter is served, up to the first that is not."""
    before = context.before
    beside = _beside(context)
    if isinstance(beside, Hold):
        return AdapterOutcome(before, beside, Effects(running_jobs(context.adapter, context.observed)))
    if conflict := _name_conflict(context, beside):
        return AdapterOutcome(before, conflict, Effects(running_jobs(context.adapter, context.observed)))
    kept = _kept(context, beside)
    if kept.hold:
        return kept
    adapter = context.adapter.model_copy(update={"status": kept.kept})
    if (facts := kept.kept.facts) and exceeds_rank(adapter, beside.plan):
        is_news = facts != context.before.facts
        return replace(kept, hold=sentences.rank_too_large(facts.rank, beside.model, beside.plan, is_news=is_news))
    if conflict := _name_conflict(context, beside, adapter):
        return replace(kept, hold=conflict)
    held = _holding(context, kept.kept)
    return replace(kept, hold=hold_of(held, adapter.served_name, beside.model.metadata.name))


def _beside(context: _Context) -> _Beside | Hold:
    """Returns the model that the adapter names, or why nothing is served beside it now."""
    name, observed = context.adapter.spec.model, context.observed
    if observed.model is None or observed.model["metadata"].get("deletionTimestamp"):
        return sentences.model_not_found(name)
    model = context.model
    if model is None:
        return sentences.model_not_ready(name, "its spec is not valid")
    if not is_served_beside(context.adapter, model):
        return sentences.model_not_dynamic(name)
    store = artifacts_source(model, context.settings)
    if store is None:
        return no_artifact_store()
    status = model.status
    if status is None or status.facts is None:
        return sentences.model_not_ready(name, "it is not inspected yet")
    plan = status.preview or status.plan
    if plan and loads_at_start(plan):
        if not is_own(context.adapter, model):
            return sentences.loaded_at_start(name)
    elif plan is None or plan.adapters is None:
        return sentences.model_not_ready(name, "it is not planned yet")
    return _Beside(model, status.facts.base, plan, store)


def _model(observed: ObservedAdapter) -> FineTunedModel | None:
    try:
        return parse(FineTunedModel, observed.model) if observed.model else None
    except InvalidManifest:
        return None


def _name_conflict(context: _Context, beside: _Beside, adapter: FineTunedAdapter | None = None) -> Hold | None:
    """Returns who else has the adapter's name: the base, or an older adapter."""
    adapter = adapter or context.adapter
    if has_name_of_base(adapter, beside.model):
        return sentences.name_of_base(adapter.served_name, beside.model.metadata.name)
    holder = holder_of_name(adapter, readable_adapters(context.observed.rivals))
    return sentences.name_taken(adapter.served_name, holder) if holder else None


def _kept(context: _Context, beside: _Beside) -> AdapterOutcome:
    """Returns the status with the adapter's artifact, or what its Job waits for."""
    adapter, before, observed = context.adapter, context.before, context.observed
    input_hash = adapter_input_hash(adapter, beside.base, beside.engine, beside.store)
    identity = own_identity(adapter, ADAPTER.name, input_hash)
    if before.artifact and before.facts and before.input_hash == input_hash:
        return AdapterOutcome(before, None, Effects(spent_jobs(adapter, observed, identity, result_is_kept=True)))
    if hold := _not_now(beside):
        return AdapterOutcome(before, hold, Effects(running_jobs(adapter, observed)))
    command = adapter_command(adapter, beside.model, beside.base, beside.engine, beside.store)
    work = StepJobs(JobOwner(adapter, beside.model.spec.jobs), ADAPTER, command, identity, shared=False)
    outcome = run_jobs(work, observed, context.settings, context.now)
    if isinstance(outcome.report, Hold):
        return AdapterOutcome(before, outcome.report, outcome.effects)
    made = _made(outcome.report)
    if made is None:
        return AdapterOutcome(before, incomplete(ADAPTER))
    facts, artifact = made
    status = before.model_copy(
        update={
            "input_hash": input_hash,
            "facts": facts,
            "artifact": artifact,
            "base_digest": beside.base.digest,
            "engine": beside.engine,
            "notes": outcome.report.notes[:MOST_NOTES] or None,
        }
    )
    return AdapterOutcome(status, None)


def _not_now(beside: _Beside) -> Hold | None:
    """Returns why nothing new is kept now: the model is suspended, or its base is about to be another."""
    model, refresh = beside.model, beside.model.metadata.annotations.get(REFRESH_ANNOTATION)
    if model.spec.suspend:
        return sentences.model_suspended(model.metadata.name)
    inspected = model.status and model.status.sources and model.status.sources.input_hash
    if inspected != inspection_input_hash(model.spec, refresh):
        return sentences.model_not_ready(model.metadata.name, "it is inspected anew")
    return None


def _made(report: Report) -> tuple[AdapterFacts, Artifact] | None:
    if report.artifact is None or report.facts is None or len(report.facts.adapters) != 1:
        return None
    return report.facts.adapters[0], report.artifact


def _holding(context: _Context, status: FineTunedAdapterStatus) -> Holding:
    pods = answering_pods(context.observed.pods(NAME, context.adapter.spec.model))
    name, held = context.adapter.served_name, context.observed.held
    if status.artifact and status.engine == LLAMA_CPP:
        held = held_from_start(pods, name, status.artifact.digest)
    return holding(name, status, pods, held)


def _with_refusals(context: _Context, outcome: AdapterOutcome) -> AdapterOutcome:
    """Returns the pass with what the API server refused as its hold, if it refused anything."""
    if not context.observed.refusals:
        return outcome
    hold = refused(context.observed.refusals, "Inspecting")
    return outcome if outcome.hold and outcome.hold.stalled and not hold.stalled else replace(outcome, hold=hold)
