"""Builds the ConfigMap that tells a model's serving pods which adapters their engines are to hold."""

from ftm_jobs.contract.run_time_adapters import WANTED_FILE, WantedAdapters, to_text, wanted_hash
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.metadata import Manifest, labels, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import AGENT, SERVE


def wanted_config_map(model: FineTunedModel, wanted: WantedAdapters) -> Manifest:
    """Returns the ConfigMap; its volume is optional, so that pods start before it is there."""
    return with_spec_hash(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(model, config_map_name(model.metadata.name), labels(model, AGENT, SERVE)),
            "data": {WANTED_FILE: to_text(wanted)},
        }
    )


def config_map_name(model: str) -> str:
    """Returns the name of a model's ConfigMap."""
    return f"{model}-adapters"


def hash_in(config_map: Manifest | None) -> str | None:
    """Returns the hash of the wanted adapters in a ConfigMap; None where it has none."""
    text = ((config_map or {}).get("data") or {}).get(WANTED_FILE)
    return wanted_hash(text) if text is not None else None
