"""Serves a model before it is merged: the base with the one adapter beside it, under the model's name. Pure.

While nothing merged serves yet, the model's own Deployment has the pods that mode Dynamic would have. The base answers
to another name in them. Once the merged model is verified the same Deployment rolls over to it, behind the same Service
and under the same name, and then what the preview needed is removed.
"""

from dataclasses import replace

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan, Quantization
from ftm_operator.planning.decision import decide
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.unmerged_adapters import unmerged_objection
from ftm_operator.reconcile.adapters.beside_base import own_holds
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context, Walk
from ftm_operator.reconcile.plan_choice import plan_or_hold
from ftm_operator.reconcile.serving import serve
from ftm_operator.reconcile.serving_children.children import owned_serving
from ftm_operator.resources.job import artifacts_source
from ftm_operator.resources.serving.pod_templates import answering_template, artifact_digest
from ftm_operator.steps.inspect import INSPECT
from ftm_operator.steps.serve import SERVE
from ftm_operator.steps.step import StepInputs
from ftm_operator.steps.verify import VERIFY

BASE_SUFFIX = "-base"
LONGEST_NAME = 128


def with_preview(context: Context, walk: Walk) -> Walk:
    """Returns the pass with the preview that its spec asks for, as long as the merged model is on its way.

    Where there can be none the hold says why, and nothing else is changed.
    """
    if context.model.spec.preview != "Dynamic" or walk.hold is None:
        return walk
    kept = replace(walk, preview=context.before.preview)
    inspected = walk.results.get(INSPECT.name)
    is_built = VERIFY.name in walk.results and not walk.hold.stalled
    if inspected is None or inspected.facts is None or walk.plan is None or is_built or walk.hold.phase == "Suspended":
        return kept
    if _something_else_serves(context, inspected.facts):
        return kept
    if why_not := _objection(context, inspected.facts):
        return replace(walk, hold=_saying(walk.hold, f"there is no preview: {why_not}"))
    return _served(context, walk, inspected.facts)


def _something_else_serves(context: Context, facts: Facts) -> bool:
    """Tells whether another version of the model is rolled out already, which goes on serving."""
    digests = {artifact_digest(answering_template(child)) for child in owned_serving(context)}
    return bool(digests - {facts.base.digest})


def _objection(context: Context, facts: Facts) -> str | None:
    """Returns why the adapters cannot be previewed."""
    spec = context.model.spec
    if len(spec.adapters) > 1:
        return f"{len(spec.adapters)} adapters are merged into one model, and an engine applies one to a request"
    decision = decide(spec, facts.base, spec.serving.tensor_parallel_size or 1)
    if isinstance(decision, Rejection) or decision.engine != "vLLM":
        return "llama.cpp serves the merged model, and has no weights before it"
    return unmerged_objection(spec, facts.adapters)


def _served(context: Context, walk: Walk, facts: Facts) -> Walk:
    store = artifacts_source(context.model, context.settings)
    assert store, "the pass came as far as a plan"
    assert walk.hold
    model, before = _previewed(context.model), context.before.model_copy(update={"plan": context.before.preview})
    own = replace(context, model=model, before=before)
    planned = plan_or_hold(own, facts)
    if isinstance(planned, Hold):
        return replace(walk, hold=_saying(walk.hold, f"there is no preview: {planned.message}"))
    inputs = StepInputs(model, store, {INSPECT.name: walk.results[INSPECT.name]}, planned)
    outcome = serve(own, SERVE, None, inputs)
    waits = outcome.hold or next(own_holds(context), None)
    said = f"its preview: {waits.message}" if waits else _answer(planned.plan)
    return replace(
        walk,
        preview=outcome.plan or planned.plan,
        hold=_saying(walk.hold, said),
        effects=walk.effects + outcome.effects,
    )


def _previewed(model: FineTunedModel) -> FineTunedModel:
    """Returns the model as mode Dynamic would serve it, with another name for its base."""
    name = model.served_model_name[: LONGEST_NAME - len(BASE_SUFFIX)] + BASE_SUFFIX
    serving = model.spec.serving.model_copy(update={"served_model_name": name})
    changes = {"mode": "Dynamic", "preview": "None", "quantization": Quantization(), "serving": serving}
    return model.model_copy(update={"spec": model.spec.model_copy(update=changes)})


def _answer(plan: Plan) -> str:
    return f'a preview answers: the base with its adapter beside it, and the base alone as "{plan.served_model_name}"'


def _saying(hold: Hold, words: str) -> Hold:
    return replace(hold, message=f"{hold.message}; {words}")
