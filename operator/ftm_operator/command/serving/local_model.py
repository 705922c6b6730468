"""Builds the model of a manifest and serves it on this machine: what `ftm run` and commands that ask a model share."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapters
from ftm_operator.api.spec.quantization import Quantization
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines import vllm
from ftm_operator.engines.llama_server import loads_at_start
from ftm_operator.local import engine as local_engine
from ftm_operator.local import steps as local
from ftm_operator.local.adapters import converted_adapters, fetch_base, held_adapters, keep_adapters
from ftm_operator.local.engine import RunningEngine
from ftm_operator.local.engine_client import EngineClient
from ftm_operator.local.errors import Infeasible, StepFailed
from ftm_operator.local.manifest_file import read_manifest
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.planning.rules.rejection import Rejection


@dataclass(frozen=True)
class LocalModel:
    """A model that an engine on this machine serves."""

    engine: RunningEngine
    built: tuple[Artifact, ...]
    """The merged model, and after it the quantized one, as far as there are any."""
    held: HeldAdapters | None = None
    """The state of each adapter that is served unmerged; None in mode Merged, and with llama.cpp."""
    started_with: tuple[str, ...] = ()
    """The names of the adapters that llama.cpp started with, by its numbers of them."""

    @property
    def clients(self) -> list[EngineClient]:
        """Returns the model's, and after it those of the adapters that it is served with."""
        held = self.held.adapters if self.held else ()
        names = [each.name for each in held if each.state is AdapterState.LOADED]
        client = self.engine.client
        numbered = [replace(client, model_name=name, adapter=at) for at, name in enumerate(self.started_with)]
        return [client, *(replace(client, model_name=name) for name in names), *numbered]


@contextlib.contextmanager
def served_manifest(manifest: Path) -> Iterator[LocalModel]:
    """Builds what the manifest asks for and serves it until the block ends. Raises LocalError."""
    with _served(read_manifest(manifest)) as served:
        yield served


@contextlib.contextmanager
def served_side_by_side(manifest: Path) -> Iterator[dict[str, EngineClient]]:
    """Serves the base, its adapters, the merged model and the quantized one at once, as far as there are any.

    Yields them by name: `base`, the adapters' own, `merged` and `quantized`. Raises LocalError.
    """
    model = read_manifest(manifest)
    with contextlib.ExitStack() as engines:
        asked = engines.enter_context(_served(model))
        if asked.held is not None or asked.started_with:
            yield _unmerged(asked)
            return
        found: dict[str, EngineClient] = {}
        try:
            found |= _unmerged(engines.enter_context(_served(_by_vllm(model, "Dynamic"))))
        except (Infeasible, StepFailed) as reason:
            local.say(f"base and adapters are not compared: {reason}")
        if len(asked.built) > 1:
            merged = _by_vllm(model, "Merged")
            planned = _feasible(merged, local.inspect(merged))
            folder = local.fetch(asked.built[0])
            found["merged"] = engines.enter_context(local_engine.serve(merged, planned.plan, folder)).client
        yield {**found, "quantized" if len(asked.built) > 1 else "merged": asked.engine.client}


def _unmerged(served: LocalModel) -> dict[str, EngineClient]:
    base, *adapters = served.clients
    return {"base": base, **{client.model_name: client for client in adapters}}


def _by_vllm(model: FineTunedModel, mode: Literal["Merged", "Dynamic"]) -> FineTunedModel:
    """Returns the model as it would be served by vLLM in this mode, not quantized."""
    spec = model.spec
    serving = spec.serving.model_copy(update={"engine": vllm.ENGINE, "device": "Auto"})
    changes = {"mode": mode, "quantization": Quantization(method="None"), "serving": serving}
    return model.model_copy(update={"spec": spec.model_copy(update=changes)})


@contextlib.contextmanager
def _served(model: FineTunedModel) -> Iterator[LocalModel]:
    facts = local.inspect(model)
    planned = _feasible(model, facts)
    if planned.plan.adapters:
        yield from _with_adapters(model, facts, planned.plan)
        return
    built = local.build(model, facts, planned)
    at_start = loads_at_start(planned.plan)
    adapters = converted_adapters(model, facts, planned.plan) if at_start else []
    with local_engine.serve(model, planned.plan, local.fetch(built[-1]), adapters=adapters) as engine:
        yield LocalModel(engine, built, None, tuple(each.name for each in model.spec.adapters) if at_start else ())


def _with_adapters(model: FineTunedModel, facts: Facts, plan: Plan) -> Iterator[LocalModel]:
    wanted = keep_adapters(model, facts, plan)
    folders = fetch_base(model, facts)
    with (
        local_engine.serve(model, plan, folders.base, folders.guard) as engine,
        held_adapters(wanted, folders, engine.client.url) as held,
    ):
        yield LocalModel(engine, (), held)


def _feasible(model: FineTunedModel, facts: Facts) -> Planned:
    result = plan(model.metadata.name, model.spec, facts)
    if isinstance(result, Rejection):
        raise Infeasible(f"{result.rule}: {result.reason}")
    return result
