"""Builds one fine-tuned model for each engine, by the steps of manifests, as a cluster's Jobs run them.

The small base and the adapter are those of the end-to-end tests. Nothing is verified here.
"""

from dataclasses import dataclass
from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.errors import parse
from ftm_operator.api.v1alpha1 import API_VERSION, KIND, FineTunedModel, Plan
from ftm_operator.local import steps as local
from ftm_operator.local.adapters import keep_adapters
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.steps import STEPS
from ftm_operator.steps.verify import VERIFY
from tests.assets import Assets

NAME, ADAPTER = "served", "support"
CONTEXT_TOKENS = 512
AT_ONCE = 8
"""Requests at once: the slots of llama-server, and the most that are measured."""
UNVERIFIED = [step for step in STEPS if step is not VERIFY]
BY_VLLM = {"engine": "vLLM", "maxModelLen": CONTEXT_TOKENS}
BY_LLAMA_CPP = {"maxModelLen": CONTEXT_TOKENS, "concurrency": AT_ONCE}


@dataclass(frozen=True)
class BuiltModel:
    """A manifest, the plan by which it is served, and what its pods fetch."""

    model: FineTunedModel
    plan: Plan
    fetched: tuple[str, str]
    """Arguments of the fetch command."""


@dataclass(frozen=True)
class BuiltModels:
    """The same fine-tuned model for each way to serve it."""

    merged: BuiltModel
    dynamic: BuiltModel
    """The base, as it is stored."""
    adapter: tuple[str, str]
    """Arguments of the fetch command, for the adapter beside that base."""
    gguf: BuiltModel


def build_models(assets: Assets, store: str) -> BuiltModels:
    """Runs the steps of all manifests."""
    merged = manifest(assets, store, quantization={"method": "None"}, serving=BY_VLLM)
    facts = local.inspect(merged)
    dynamic = manifest(assets, store, mode="Dynamic", serving=BY_VLLM)
    by_dynamic = planned(dynamic, facts).plan
    (adapter,) = keep_adapters(dynamic, facts, by_dynamic).adapters
    q8 = manifest(assets, store, quantization={"method": "GGUF", "gguf": {"type": "Q8_0"}}, serving=BY_LLAMA_CPP)
    return BuiltModels(
        merged=built(merged, facts),
        dynamic=BuiltModel(dynamic, by_dynamic, ("--base", f"{facts.base.uri},digest={facts.base.digest}")),
        adapter=("--artifact", f"{adapter.artifact},digest={adapter.digest}"),
        gguf=built(q8, facts),
    )


def manifest(assets: Assets, store: str, **spec: Any) -> FineTunedModel:
    sources = {"base": {"uri": assets.base.as_uri()}, "adapters": [{"name": ADAPTER, "uri": assets.adapter.as_uri()}]}
    written = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": NAME}}
    return parse(FineTunedModel, {**written, "spec": {**sources, "artifacts": {"uri": store}, **spec}})


def planned(model: FineTunedModel, facts: Facts) -> Planned:
    found = plan(NAME, model.spec, facts)
    assert not isinstance(found, Rejection), found.reason
    return found


def built(model: FineTunedModel, facts: Facts) -> BuiltModel:
    """Runs the steps of a manifest; what an earlier one has merged is taken up."""
    found = planned(model, facts)
    artifact = local.build(model, facts, found, UNVERIFIED)[-1]
    return BuiltModel(model, found.plan, ("--artifact", f"{artifact.uri},digest={artifact.digest}"))
