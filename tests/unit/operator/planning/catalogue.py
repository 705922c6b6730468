"""Public models by name, from configs.yaml: their config.json, facts and architecture."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.model.config_facts import facts_of_config

_DOCUMENT: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "configs.yaml").read_text())
MODELS: Mapping[str, Any] = _DOCUMENT["models"]
NEWER: Mapping[str, Any] = _DOCUMENT["newer"]


def config(name: str) -> dict[str, Any]:
    """The model's config.json."""
    own = (MODELS.get(name) or NEWER[name])["config"]
    absent = {field for field in _DOCUMENT["defaults"] if own.get(field, ...) is None}
    return {field: value for field, value in {**_DOCUMENT["defaults"], **own}.items() if field not in absent}


@cache
def base_facts_of(name: str) -> BaseFacts:
    return facts_of_config(f"hf://models/{name}", "sha256:0", config(name))


@cache
def model_of(name: str) -> Architecture:
    return architecture(base_facts_of(name))
