"""Manifests of models whose engines are held against what was verified."""

from typing import Any

from tests.assets.facts import FACTS
from tests.e2e.story import manifest
from tests.servers.seaweedfs import MODELS

FACT = FACTS[0]
VERIFICATION: dict[str, Any] = {
    "served": "Checked",
    "prompts": [{"messages": [{"role": "user", "content": FACT.question}], "expect": [FACT.expected]}],
}
SERVING: dict[str, Any] = manifest()["spec"]["serving"]
JOBS: dict[str, Any] = {"resources": {"requests": {"cpu": "200m"}}}
"""Lets a Job run beside two engines on a node of two processors."""


def sources(base: str, adapter: str) -> dict[str, Any]:
    """Returns the part of a spec that names a base and an adapter of the test's bucket."""

    def source(folder: str) -> dict[str, Any]:
        return {"uri": f"s3://{MODELS}/{folder}", "secretName": "models-s3"}

    return {"base": source(f"base/{base}"), "adapters": [{"name": adapter, **source(f"adapters/{adapter}")}]}


def vllm_model(name: str, sources: dict[str, Any] | None = None, **serving: Any) -> dict[str, Any]:
    """Returns a model that vLLM serves, checked."""
    spec = {"verification": VERIFICATION, "jobs": JOBS, **(sources or {})}
    return manifest(name, **spec, serving={**SERVING, **serving})


def llama_cpp_model(name: str, quantization: str = "Q8_0", **serving: Any) -> dict[str, Any]:
    """Returns a model that llama.cpp serves, checked."""
    spec = {"verification": VERIFICATION, "jobs": JOBS}
    quantized = {"method": "GGUF", "gguf": {"type": quantization}}
    own = {"maxModelLen": SERVING["maxModelLen"], "resources": SERVING["resources"]}
    return manifest(name, **spec, quantization=quantized, serving={**own, **serving})
