"""Reads an installation's settings from the FTM_* variables of the environment that it is given."""

import json
from collections.abc import Mapping

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, UnknownMemory, declared_classes
from ftm_operator.settings import Settings


class SettingsError(Exception):
    """An environment variable is missing or wrong."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Returns the settings that FTM_* variables hold. Raises SettingsError naming the variable."""
    return Settings(
        jobs_image=_required(environment, "FTM_JOBS_IMAGE"),
        merge_image=_required(environment, "FTM_MERGE_IMAGE"),
        vllm_image=_required(environment, "FTM_VLLM_IMAGE"),
        gguf_image=_required(environment, "FTM_GGUF_IMAGE"),
        awq_image=_required(environment, "FTM_AWQ_IMAGE"),
        compressor_image=_required(environment, "FTM_COMPRESSOR_IMAGE"),
        llama_cpp_image=_required(environment, "FTM_LLAMA_CPP_IMAGE"),
        image_pull_policy=environment.get("FTM_IMAGE_PULL_POLICY") or "IfNotPresent",
        image_pull_secrets=_names(environment.get("FTM_IMAGE_PULL_SECRETS", "")),
        artifacts_uri=environment.get("FTM_ARTIFACTS_URI") or None,
        artifacts_secret_name=environment.get("FTM_ARTIFACTS_SECRET_NAME") or None,
        namespaces=_names(environment.get("FTM_NAMESPACES", "")),
        accelerators=_classes(environment, "FTM_ACCELERATORS"),
        prometheus=environment.get("FTM_PROMETHEUS") or None,
        rollout_on_upgrade=environment.get("FTM_ROLLOUT_ON_UPGRADE") == "true",
        observe_accelerators=environment.get("FTM_OBSERVE_ACCELERATORS") == "true",
        resync_seconds=_number(environment, "FTM_RESYNC_SECONDS", 300.0),
        health_port=int(_number(environment, "FTM_HEALTH_PORT", 8080)),
        installation=environment.get("FTM_INSTALLATION") or None,
        pod=environment.get("FTM_POD_NAME") or None,
        log_format=environment.get("FTM_LOG_FORMAT") or "json",
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name):
        return value
    raise SettingsError(f"{name} is not set; the chart sets it from its values, images.*")


def _names(value: str) -> tuple[str, ...]:
    return tuple(name for part in value.split(",") if (name := part.strip()))


def _classes(environment: Mapping[str, str], name: str) -> tuple[AcceleratorClass, ...]:
    value = environment.get(name)
    if not value:
        return ()
    try:
        return tuple(declared_classes(json.loads(value)))
    except (ValueError, TypeError, InvalidManifest, UnknownMemory) as error:
        raise SettingsError(f"{name}, which the chart sets from accelerators.classes: {error}") from None


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    value = environment.get(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1
    if number <= 0:
        raise SettingsError(f"{name} is {value!r}; write a number above 0")
    return number
