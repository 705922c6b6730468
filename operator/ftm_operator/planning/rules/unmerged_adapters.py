"""Says which adapters vLLM does not serve beside the base, by what the inspection found. Pure."""

from collections.abc import Sequence

from ftm_jobs.contract.facts import AdapterFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.rules.rejection import Rejection

_ABOUT_SCALE = "scale "
"""An inspection's objection to a scale is of the spec as it was then: scales are no part of what is inspected."""


def served_unmerged(spec: FineTunedModelSpec, adapters: Sequence[AdapterFacts]) -> Rejection | None:
    """Each adapter of the spec can be served beside the base. Source: lora/peft_helper.py, lora_model.py, utils.py."""
    found = unmerged_objection(spec, adapters)
    return Rejection("NotServedUnmerged", f"{found}; set spec.mode to Merged") if found else None


def unmerged_objection(spec: FineTunedModelSpec, adapters: Sequence[AdapterFacts]) -> str | None:
    """Returns the first adapter that must be merged, and why; None if all can be served beside the base."""
    for adapter, facts in zip(spec.adapters, adapters, strict=False):
        said = [each for each in facts.dynamic_objections or () if not each.startswith(_ABOUT_SCALE)]
        if adapter.scale != 1:
            said.append(f"scale {adapter.scale:g} applies only to a merge")
        if said:
            return f'adapter "{adapter.name}": {said[0]}'
    return None
