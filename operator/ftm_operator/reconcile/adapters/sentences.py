"""Words why an adapter is not served. Pure."""

from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.reconcile.holds import Hold

REPLANNED_SECONDS = 5.0
"""The time in which the model's pass takes in a new rank."""


def model_not_found(name: str) -> Hold:
    message = f"there is no FineTunedModel {name} in this namespace; create it, or correct spec.model"
    return Hold("Failed", OperatorReason.MODEL_NOT_FOUND, message, stalled=True)


def model_not_dynamic(name: str) -> Hold:
    message = f"FineTunedModel {name} serves no adapters beside its base; set its spec.mode to Dynamic"
    return Hold("Failed", OperatorReason.MODEL_NOT_DYNAMIC, message, stalled=True)


def loaded_at_start(name: str) -> Hold:
    message = (
        f"FineTunedModel {name} is served by llama.cpp, which loads adapters at its start alone; name this one in its "
        "spec.adapters, or serve it with vLLM (spec.serving.engine)"
    )
    return Hold("Failed", OperatorReason.MODEL_NOT_DYNAMIC, message, stalled=True)


def model_not_ready(name: str, why: str) -> Hold:
    return Hold("Inspecting", OperatorReason.MODEL_NOT_READY, f"waits for FineTunedModel {name}: {why}")


def model_suspended(name: str) -> Hold:
    message = f"spec.suspend of FineTunedModel {name} is true: nothing new is checked or loaded"
    return Hold("Suspended", OperatorReason.SUSPENDED, message)


def name_of_base(served_name: str, model: str) -> Hold:
    message = (
        f'the base of FineTunedModel {model} answers to "{served_name}" itself; set spec.servedName to another name'
    )
    return Hold("Failed", OperatorReason.SERVED_NAME_TAKEN, message, stalled=True)


def name_taken(served_name: str, holder: FineTunedAdapter) -> Hold:
    message = (
        f'FineTunedAdapter {holder.metadata.name}, which is older, is served as "{holder.served_name}"; set '
        f'spec.servedName to another name than "{served_name}", or delete that one'
    )
    return Hold("Failed", OperatorReason.SERVED_NAME_TAKEN, message, stalled=True)


def rank_too_large(rank: int, model: FineTunedModel, plan: Plan, *, is_news: bool) -> Hold:
    """Returns that the model is planned anew for a larger rank, or why it is not.

    `is_news`: the model's pass has not known of the rank yet. What it does not change then, only a person can.
    """
    name = model.metadata.name
    numbers = f"its rank is {rank}, and FineTunedModel {name} takes {plan.adapters.max_rank if plan.adapters else 0}"
    if is_news:
        message = f"{numbers}; it is planned anew for this one"
        return Hold("Deploying", OperatorReason.RANK_TOO_LARGE, message, retry_after=REPLANNED_SECONDS)
    why = "" if model.spec.serving.dynamic.max_rank else "; a larger rank does not fit the GPUs that it has"
    message = f"{numbers}{why}; set its spec.serving.dynamic.maxRank to {rank} or more"
    return Hold("Failed", OperatorReason.RANK_TOO_LARGE, message, stalled=True)
