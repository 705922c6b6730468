"""Decides which FineTunedAdapters are served beside a model: who has a name, and what fits the engines. Pure.

Of two that want the same name the older has it, and of two of one age the one whose name comes first. A name is also
taken if another adapter is loaded under it while it is proven.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ftm_jobs.contract.run_time_adapters import versioned
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest

_LAST = datetime.max.replace(tzinfo=UTC)


def readable_adapters(items: Iterable[Manifest]) -> list[FineTunedAdapter]:
    """Returns the stored adapters that keep the rules of their kind and are not being deleted."""
    adapters = []
    for item in items:
        try:
            adapters.append(parse(FineTunedAdapter, item))
        except InvalidManifest:
            continue
    return [adapter for adapter in adapters if adapter.metadata.deletion_timestamp is None]


def by_age(adapters: Iterable[FineTunedAdapter]) -> list[FineTunedAdapter]:
    """Returns the adapters in the order in which they get their names."""
    return sorted(adapters, key=_age)


def names_of(adapter: FineTunedAdapter) -> set[str]:
    """Returns the names that an adapter has in engines: its own, and that under which its version is proven."""
    artifact = adapter.status.artifact if adapter.status else None
    return {adapter.served_name, *([versioned(adapter.served_name, artifact.digest)] if artifact else [])}


def holder_of_name(adapter: FineTunedAdapter, others: Sequence[FineTunedAdapter]) -> FineTunedAdapter | None:
    """Returns the older adapter that has this one's name, if there is one."""
    older = (other for other in by_age(others) if _age(other) < _age(adapter))
    return next((other for other in older if names_of(other) & names_of(adapter)), None)


def is_served_beside(adapter: FineTunedAdapter, model: FineTunedModel) -> bool:
    """Tells whether the model's spec lets the adapter be served unmerged; its own one may be, as a preview."""
    return model.spec.mode == "Dynamic" or (model.spec.preview == "Dynamic" and is_own(adapter, model))


def has_name_of_base(adapter: FineTunedAdapter, model: FineTunedModel) -> bool:
    """Tells whether the adapter asks for the name that the base alone answers to; a preview has the model's name."""
    is_preview = model.spec.mode != "Dynamic" and is_own(adapter, model)
    return adapter.served_name == model.served_model_name and not is_preview


def is_kept_for(adapter: FineTunedAdapter, base_digest: str, engine: str) -> bool:
    """Tells whether the adapter's artifact was made for this base and this engine."""
    status = adapter.status
    return bool(status and status.artifact and (status.base_digest, status.engine) == (base_digest, engine))


def exceeds_rank(adapter: FineTunedAdapter, plan: Plan) -> bool:
    """Tells whether the engines, as they are planned, refuse the adapter for its rank."""
    facts = adapter.status.facts if adapter.status else None
    return bool(facts and plan.adapters and facts.rank > plan.adapters.max_rank)


def is_own(adapter: FineTunedAdapter, model: FineTunedModel) -> bool:
    """Tells whether the adapter is one that the model's spec names."""
    return any(owner.uid == model.metadata.uid for owner in adapter.metadata.owner_references)


def _age(adapter: FineTunedAdapter) -> tuple[datetime, str]:
    return adapter.metadata.creation_timestamp or _LAST, adapter.metadata.name
