"""Builds the FineTunedAdapter of an adapter that a FineTunedModel names itself: all adapters go the same way."""

from ftm_jobs.contract.facts import AdapterFacts
from ftm_operator.api.fine_tuned_adapter import KIND
from ftm_operator.api.v1alpha1 import API_VERSION, Adapter, FineTunedModel
from ftm_operator.planning.input_hashes import REFRESH_ANNOTATION, short_hash
from ftm_operator.resources.metadata import MANAGED_BY, MANAGER, NAME, Manifest, metadata, with_spec_hash

LONGEST_NAME = 40
_HASH_DIGITS = 8


def own_adapter(model: FineTunedModel, adapter: Adapter, facts: AdapterFacts, served_name: str) -> Manifest:
    """Returns the FineTunedAdapter, whose source is resolved as the inspection found it."""
    own = metadata(model, _name(model, adapter), {MANAGED_BY: MANAGER, NAME: model.metadata.name})
    refresh = model.metadata.annotations.get(REFRESH_ANNOTATION)
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {**own, **({"annotations": {REFRESH_ANNOTATION: refresh}} if refresh else {})},
            "spec": {
                "model": model.metadata.name,
                "uri": facts.uri,
                **({"secretName": adapter.secret_name} if adapter.secret_name else {}),
                "servedName": served_name,
            },
        }
    )


def _name(model: FineTunedModel, adapter: Adapter) -> str:
    name = f"{model.metadata.name}-{adapter.name}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - _HASH_DIGITS - 1].rstrip('-')}-{short_hash(name, _HASH_DIGITS)}"
