"""Serves adapters beside a base on this machine: the same Job's command, agent and guard as in a cluster's pods."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import (
    WANTED_FILE,
    AdapterState,
    HeldAdapter,
    HeldAdapters,
    WantedAdapter,
    WantedAdapters,
    newest,
    to_text,
    wanted_hash,
)
from ftm_jobs.contract.steps import Step
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter, FineTunedAdapterSpec
from ftm_operator.api.v1alpha1 import Adapter, FineTunedModel, ObjectMeta, Plan
from ftm_operator.engines import llama_server
from ftm_operator.local import steps as local
from ftm_operator.local.errors import LocalError
from ftm_operator.local.ports import free_port
from ftm_operator.local.processes import running
from ftm_operator.steps.adapter import adapter_command

LOOK_SECONDS = 0.3
AGENT_STOP_SECONDS = 5
LOAD_SECONDS = 900
"""The most that fetching, loading and proving all adapters may take."""
LOG_LINES_SHOWN = 5


@dataclass(frozen=True)
class DynamicFolders:
    """The folders of a model whose adapters are served unmerged."""

    base: Path
    guard: Path
    """The engine's guard, and the secret that the agent shows it."""
    adapters: Path
    """The adapters that the engine loads, and the file of those that are wanted."""


def fetch_base(model: FineTunedModel, facts: Facts) -> DynamicFolders:
    """Returns the folders, with the base as it was inspected and the guard in them. Raises LocalError."""
    digest = facts.base.digest.rpartition(":")[2]
    models = local.cache_directory() / "models"
    folders = DynamicFolders(
        models / f"base-{digest[:32]}", models / "guard", models / f"adapters-{model.metadata.name}"
    )
    source = f"{facts.base.uri},digest={facts.base.digest}"
    local.run_command(Step.FETCH, ["--base", source, "--to", str(folders.base), "--guard", str(folders.guard)])
    return folders


def keep_adapters(model: FineTunedModel, facts: Facts, plan: Plan) -> WantedAdapters:
    """Checks the model's adapters against the base and keeps them in the store. Raises LocalError."""
    return WantedAdapters(
        model=str(plan.served_model_name),
        adapters=tuple(_kept(model, facts, plan, adapter) for adapter in model.spec.adapters),
    )


def _kept(model: FineTunedModel, facts: Facts, plan: Plan, adapter: Adapter) -> WantedAdapter:
    artifact = _artifact(model, facts, plan, adapter)
    return WantedAdapter(
        name=adapter.name, artifact=artifact.uri, digest=artifact.digest, total_bytes=artifact.total_bytes
    )


def converted_adapters(model: FineTunedModel, facts: Facts, plan: Plan) -> list[Path]:
    """Returns the files of the model's adapters that llama.cpp starts with, in the spec's order. Raises LocalError."""
    artifacts = [_artifact(model, facts, plan, adapter) for adapter in model.spec.adapters]
    return [local.fetch(artifact) / llama_server.ADAPTER_FILE for artifact in artifacts]


def _artifact(model: FineTunedModel, facts: Facts, plan: Plan, adapter: Adapter) -> Artifact:
    """Checks an adapter against the base and keeps it in the store, as the plan's engine loads it."""
    resource = FineTunedAdapter(
        api_version="ftm.dev/v1alpha1",
        kind="FineTunedAdapter",
        metadata=ObjectMeta(name=adapter.name),
        spec=FineTunedAdapterSpec(model=model.metadata.name, uri=adapter.uri),
    )
    store = local.store_of(model)
    command = adapter_command(resource, local.without_secrets(model), facts.base, str(plan.engine), store)
    name, *arguments = command.words
    report = local.run_command(command.step, arguments, name)
    assert report.artifact
    local.say_notes(report)
    return report.artifact


@contextlib.contextmanager
def held_adapters(wanted: WantedAdapters, folders: DynamicFolders, engine_url: str) -> Iterator[HeldAdapters]:
    """Has an agent make the engine hold the adapters while the block lasts; yields how each stands with it.

    Raises LocalError when the agent ends, or has not tried all of them in LOAD_SECONDS.
    """
    folders.adapters.mkdir(parents=True, exist_ok=True)
    text = to_text(wanted)
    file = folders.adapters / WANTED_FILE
    file.write_text(text, encoding="utf-8")
    arguments = ["--wanted", str(file), "--folder", str(folders.adapters / "loaded"), "--engine", engine_url]
    arguments += ["--guard", str(folders.guard), "--port", str(free_port())]
    command = [sys.executable, "-m", "ftm_jobs", "adapters", *arguments]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as log:
        local.say(f"loading {len(wanted.adapters)} adapters")
        with running(command, AGENT_STOP_SECONDS, stdout=said, stderr=log) as process:
            yield _awaited(process, said, log, wanted_hash(text))


def _awaited(process: "subprocess.Popen[bytes]", said: IO[bytes], log: IO[bytes], wanted: str) -> HeldAdapters:
    """Returns how the adapters stand once none is on its way."""
    began = time.monotonic()
    while time.monotonic() - began < LOAD_SECONDS:
        held = newest(_lines(said))
        if held and held.wanted == wanted and held.engine_ready and not _on_their_way(held):
            for adapter in held.adapters:
                local.say(standing(adapter))
            return held
        if process.poll() is not None:
            last = "\n".join(_lines(log)[-LOG_LINES_SHOWN:])
            raise LocalError(f"the adapters' agent ended with exit code {process.returncode}; its last lines:\n{last}")
        time.sleep(LOOK_SECONDS)
    names = ", ".join(_on_their_way(held)) if held else "any"
    raise LocalError(f"the engine does not answer for {names} after {LOAD_SECONDS} s")


def standing(adapter: HeldAdapter) -> str:
    """Returns how an adapter stands with one engine, for people."""
    measured = ""
    if adapter.effect:
        measured = f", effect {adapter.effect.difference:.3g} nats, rounding {adapter.effect.rounding:.3g}"
    why = ": ".join(each for each in (adapter.reason, adapter.message) if each)
    return f"{adapter.name}: {adapter.state}{measured}" + (f" ({why})" if why else "")


def _on_their_way(held: HeldAdapters) -> list[str]:
    return [each.name for each in held.adapters if each.state is AdapterState.LOADING]


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").splitlines()
