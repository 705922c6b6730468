"""Has the engines of a model hold adapters beside its base: a part of the pass over a FineTunedModel. Pure.

The adapters that the spec names are FineTunedAdapters of the model's own. All that are kept for its base are in one
ConfigMap, which its pods mount and are told of. This goes on while the model itself is held: one adapter that cannot be
served, or a base that is inspected anew, keeps no other from its engines.

The model is ready when its own adapters answer in every pod; those of others do not count. llama.cpp has the model's
own alone, which are part of its pods: reconcile/serving.py.
"""

from collections.abc import Iterator
from dataclasses import replace

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.run_time_adapters import WantedAdapters
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapterStatus, readable
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Adapter, FineTunedModel, Phase
from ftm_operator.engines.llama_server import loads_at_start
from ftm_operator.observe.adapter_pods import answering_pods, is_touched, with_agents
from ftm_operator.observe.drift import difference
from ftm_operator.reconcile.adapters.admission import readable_adapters
from ftm_operator.reconcile.adapters.wanted import wanted_adapters
from ftm_operator.reconcile.holds import Hold, name_taken
from ftm_operator.reconcile.passes import Action, Apply, Context, Delete, Effects, Touch, Walk
from ftm_operator.resources.metadata import NAME, Manifest, belongs_to, owned_by
from ftm_operator.resources.own_adapter import own_adapter
from ftm_operator.resources.serving.wanted_config_map import hash_in, wanted_config_map
from ftm_operator.steps.inspect import INSPECT
from ftm_operator.steps.serve import SERVE


def with_adapters(context: Context, walk: Walk) -> Walk:
    """Returns the pass with what its adapters need, and held where one of the model's own is not served."""
    if context.model.spec.suspend:
        return walk
    plan, facts = walk.preview or walk.plan or context.before.plan, _facts(context, walk)
    if plan and facts and loads_at_start(plan):
        own = tuple(_own_adapters(context, facts)) if walk.plan and INSPECT.name in walk.results else ()
        return replace(walk, hold=walk.hold or next(own_holds(context), None), effects=walk.effects + Effects(own))
    if plan is None or facts is None or plan.adapters is None:
        removed = () if walk.hold else tuple(_remains(context))
        return replace(walk, effects=walk.effects + Effects(removed))
    wanted = wanted_adapters(context.model, plan, facts.base.digest, readable_adapters(context.observed.adapters))
    live = context.observed.wanted_config_map
    if live and not belongs_to(live, context.model):
        return replace(walk, hold=name_taken(live["kind"], live["metadata"]["name"]))
    own = tuple(_own_adapters(context, facts)) if walk.plan and INSPECT.name in walk.results else ()
    effects = Effects((*own, *_told(context, wanted, live)))
    held = walk if walk.hold else _with_served(context, walk, wanted)
    return replace(held, effects=walk.effects + effects)


def _facts(context: Context, walk: Walk) -> Facts | None:
    inspected = walk.results.get(INSPECT.name)
    return inspected.facts if inspected and inspected.facts else context.before.facts


def _own_adapters(context: Context, facts: Facts) -> Iterator[Action]:
    """Yields what makes the FineTunedAdapters of the spec's adapters, and removes those of others."""
    model = context.model
    live = {each["metadata"]["name"]: each for each in context.observed.adapters if owned_by(each, model)}
    for adapter, found in zip(model.spec.adapters, facts.adapters, strict=True):
        made = own_adapter(model, adapter, found, _served_name(model, adapter))
        why = difference(made, present := live.pop(made["metadata"]["name"], None))
        if why and not (present and _is_going(present)):
            yield Apply(made, why)
    yield from (Delete(each) for each in live.values() if not _is_going(each))


def _served_name(model: FineTunedModel, adapter: Adapter) -> str:
    """Returns the adapter's own name; that of the model in a preview."""
    return adapter.name if model.spec.mode == "Dynamic" else model.served_model_name


def _told(context: Context, wanted: WantedAdapters, live: Manifest | None) -> Iterator[Action]:
    """Yields the ConfigMap if it is not as wanted, or else its pods that are to be told of it."""
    config_map = wanted_config_map(context.model, wanted)
    if why := difference(config_map, live):
        yield Apply(config_map, why)
        return
    wanted_hash = str(hash_in(live))
    pods = with_agents(context.observed.pods(NAME, context.model.metadata.name))
    yield from (Touch(pod, wanted_hash) for pod in pods if not is_touched(pod, wanted_hash))


def _remains(context: Context) -> Iterator[Delete]:
    """Yields what a model that merges its adapters has from before, once no pod needs it."""
    live = context.observed.wanted_config_map
    children = [each for each in context.observed.adapters if owned_by(each, context.model)]
    children += [live] if live and owned_by(live, context.model) else []
    yield from (Delete(child) for child in children if not _is_going(child))


def _with_served(context: Context, walk: Walk, wanted: WantedAdapters) -> Walk:
    """Returns the pass held by the first of the model's own adapters that is not served, or with their number."""
    if hold := next(own_holds(context), None):
        return replace(walk, hold=hold)
    served, there = _served(context, wanted), len(context.observed.adapters)
    said = f"{served} of {there} adapters are served" if there else "no adapter is there yet"
    result = walk.results[SERVE.name]
    message = "; ".join(filter(None, (result.message, said)))
    return replace(walk, results={**walk.results, SERVE.name: replace(result, message=message)})


def _served(context: Context, wanted: WantedAdapters) -> int:
    """Returns how many of the wanted adapters answer in every pod that answers."""
    pods = answering_pods(context.observed.pods(NAME, context.model.metadata.name))
    said = (context.observed.held.get(str(pod["metadata"]["name"])) for pod in pods)
    serving = [{each.name: each.serving for each in held.adapters} if held else {} for held in said]
    return sum(bool(serving) and all(pod.get(each.name) == each.digest for pod in serving) for each in wanted.adapters)


def own_holds(context: Context) -> Iterator[Hold]:
    """Yields what each of the model's own adapters waits for, in its own words."""
    if context.model.spec.serving.replicas == 0:
        return
    live = {each["spec"].get("servedName"): each for each in context.observed.adapters if owned_by(each, context.model)}
    for adapter in context.model.spec.adapters:
        child = live.get(_served_name(context.model, adapter))
        status = FineTunedAdapterStatus.model_validate(readable((child or {}).get("status") or {}))
        conditions = {each.type: each for each in status.conditions}
        ready = conditions.get("Ready")
        if child is None or ready is None or status.observed_generation < child["metadata"].get("generation", 0):
            yield Hold("Deploying", OperatorReason.LOADING, f'adapter "{adapter.name}" is to be checked and loaded')
        elif ready.status != "True":
            stalled = "Stalled" in conditions
            phase: Phase = "Failed" if stalled else "Deploying"
            yield Hold(phase, ready.reason, f'adapter "{adapter.name}": {ready.message}', stalled)


def _is_going(child: Manifest) -> bool:
    return "deletionTimestamp" in child["metadata"]
