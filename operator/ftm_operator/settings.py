"""What an installation decides: images, defaults and intervals. Read once from the environment at start-up."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, UnknownMemory, declared_classes


class SettingsError(Exception):
    """An environment variable is missing or wrong."""


@dataclass(frozen=True)
class Settings:
    jobs_image: str
    merge_image: str
    vllm_image: str
    llama_cpp_image: str
    gguf_image: str
    """Makes GGUF files, and verifies: it holds torch, transformers and llama.cpp."""
    awq_image: str
    compressor_image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    artifacts_uri: str | None = None
    artifacts_secret_name: str | None = None
    namespaces: tuple[str, ...] = ()
    """Empty means all."""
    accelerators: tuple[AcceleratorClass, ...] = ()
    """Kinds of GPU that there are though no node may show them now."""
    observe_accelerators: bool = False
    """Whether nodes and ResourceSlices are read."""
    resync_seconds: float = 300.0
    health_port: int = 8080
    log_format: str = "json"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings that FTM_* variables name. Raises SettingsError naming the variable."""
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
        observe_accelerators=environment.get("FTM_OBSERVE_ACCELERATORS") == "true",
        resync_seconds=_number(environment, "FTM_RESYNC_SECONDS", 300.0),
        health_port=int(_number(environment, "FTM_HEALTH_PORT", 8080)),
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
