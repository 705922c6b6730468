"""Divides requests for one name over adapters, where the platform's gateway can, and says so where it cannot. Pure.

The adapters are addressable by their own names in any case.
"""

from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.reconcile.adapters.admission import readable_adapters
from ftm_operator.reconcile.passes import Context
from ftm_operator.reconcile.serving_children.around import Around, applied, deleted
from ftm_operator.resources.gateway.inference_model_rewrite import API_VERSIONS, KIND, inference_model_rewrite


def served_names(context: Context, plan: Plan) -> Around:
    """Returns the rewrite that the spec asks for, or what it takes; nothing is refused for it."""
    asked, observed = context.model.spec.serving, context.observed
    if not asked.served_names:
        return Around(deleted(context, observed.inference_model_rewrite))
    names = ", ".join(each.name for each in asked.served_names)
    if asked.gateway is None or asked.gateway.inference_pool is None:
        takes = "spec.serving.gateway.inferencePool, whose endpoint picker divides requests"
        return Around(deleted(context, observed.inference_model_rewrite), _takes(names, takes))
    version = next((each for each in API_VERSIONS if each.partition("/")[0] in observed.served_apis), None)
    if KIND not in observed.served_apis or version is None:
        return Around(words=_takes(names, f"{KIND} ({' or '.join(API_VERSIONS)}), which the cluster does not serve"))
    rewrite = inference_model_rewrite(context.model, plan, version)
    return Around(applied(context, rewrite, observed.inference_model_rewrite), _unknown(context, plan))


def _takes(names: str, what: str) -> str:
    return f"requests for {names} are not divided, and adapters answer to their own names: servedNames takes {what}"


def _unknown(context: Context, plan: Plan) -> str:
    """Returns which targets name no adapter that there is."""
    there = {each.served_name for each in readable_adapters(context.observed.adapters)} | {plan.served_model_name}
    asked = (target.adapter for each in context.model.spec.serving.served_names for target in each.targets)
    unknown = sorted({name for name in asked if name not in there})
    return f"servedNames names {', '.join(unknown)}, and no FineTunedAdapter is served so" if unknown else ""
