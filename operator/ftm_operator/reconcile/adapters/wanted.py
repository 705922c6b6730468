"""Lists the adapters that the engines of a model are to hold. Pure."""

from collections.abc import Sequence

from ftm_jobs.contract.run_time_adapters import WantedAdapter, WantedAdapters, WantedPrompt
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.spec.verification import Prompt
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.reconcile.adapters.admission import (
    by_age,
    exceeds_rank,
    has_name_of_base,
    is_kept_for,
    is_served_beside,
    names_of,
)


def wanted_adapters(
    model: FineTunedModel, plan: Plan, base_digest: str, adapters: Sequence[FineTunedAdapter]
) -> WantedAdapters:
    """Returns the adapters that are kept for this base and this plan, the older first.

    An adapter whose new version is still to be checked is there in the version that was kept before.
    """
    taken: set[str] = set()
    wanted: list[WantedAdapter] = []
    for adapter in by_age(adapters):
        names = names_of(adapter)
        if adapter.spec.model != model.metadata.name or taken & names:
            continue
        taken |= names
        if _may_be_loaded(adapter, model, plan, base_digest):
            wanted.append(_wanted(adapter))
    return WantedAdapters(
        model=plan.served_model_name or model.served_model_name, base=base_digest, adapters=tuple(wanted)
    )


def _may_be_loaded(adapter: FineTunedAdapter, model: FineTunedModel, plan: Plan, base_digest: str) -> bool:
    if not is_served_beside(adapter, model) or has_name_of_base(adapter, model):
        return False
    return is_kept_for(adapter, base_digest, plan.engine or "") and not _is_refused_for_its_rank(adapter, plan)


def _is_refused_for_its_rank(adapter: FineTunedAdapter, plan: Plan) -> bool:
    """Tells whether there is no use in loading the adapter.

    Where a former version serves it stays wanted: engines refuse the new one, and the former goes on until they are
    started with a larger rank.
    """
    serves = adapter.status is not None and adapter.status.serving is not None
    return exceeds_rank(adapter, plan) and not serves


def _wanted(adapter: FineTunedAdapter) -> WantedAdapter:
    assert adapter.status
    assert adapter.status.artifact
    artifact, verification = adapter.status.artifact, adapter.spec.verification
    return WantedAdapter(
        name=adapter.served_name,
        artifact=artifact.uri,
        digest=artifact.digest,
        total_bytes=artifact.total_bytes,
        prompts=tuple(map(_prompt, verification.prompts)),
        policy=verification.policy,
    )


def _prompt(prompt: Prompt) -> WantedPrompt:
    messages = None
    if prompt.messages is not None:
        messages = tuple({"role": each.role, "content": each.content} for each in prompt.messages)
    return WantedPrompt(prompt=prompt.prompt, messages=messages, expect=prompt.expect)
