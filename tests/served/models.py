"""Manifests of models whose engines are held against what was verified."""

from typing import Any

from tests.assets.facts import FACTS
from tests.e2e.story import manifest

FACT = FACTS[0]
VERIFICATION: dict[str, Any] = {
    "served": "Checked",
    "prompts": [{"messages": [{"role": "user", "content": FACT.question}], "expect": [FACT.expected]}],
}
SERVING: dict[str, Any] = manifest()["spec"]["serving"]
JOBS: dict[str, Any] = {"resources": {"requests": {"cpu": "200m"}}}
"""Lets a Job run beside two engines on a node of two processors."""


def vllm_model(name: str, **serving: Any) -> dict[str, Any]:
    """Returns a model that vLLM serves, checked."""
    return manifest(name, verification=VERIFICATION, jobs=JOBS, serving={**SERVING, **serving})
