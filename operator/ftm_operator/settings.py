"""Holds the decisions of an installation: images, defaults and intervals."""

from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass


@dataclass(frozen=True)
class Settings:
    """The settings of one installation."""

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
    """Kinds of GPU that count even while no node shows them."""
    prometheus: str | None = None
    """The address of the Prometheus that reads the engines' metrics."""
    rollout_on_upgrade: bool = False
    """True if pods that serve follow the images and the builders of a newer installation by themselves."""
    observe_accelerators: bool = False
    """True if nodes and ResourceSlices are read."""
    resync_seconds: float = 300.0
    health_port: int = 8080
    installation: str | None = None
    """NAMESPACE/NAME of the operator's Deployment: pods of one installation follow each other at once."""
    pod: str | None = None
    """The operator's own pod."""
    log_format: str = "json"
