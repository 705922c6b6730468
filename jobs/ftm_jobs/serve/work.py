"""Does the agent's actions, each in a thread of its own."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ftm_jobs.contract.run_time_adapters import WantedAdapter
from ftm_jobs.errors import StepError
from ftm_jobs.serve.actions import (
    AgentAction,
    FetchFolder,
    LoadAdapter,
    MoveName,
    ProveAdapter,
    RemoveFolder,
    UnloadName,
)
from ftm_jobs.serve.proof import BaseMeasurement, ProvingEngine, measure_base, prove
from ftm_jobs.serve.state import FinishedAction
from ftm_jobs.serve.trials import EffectProof


class LoadingEngine(ProvingEngine, Protocol):
    """Loads and unloads besides."""

    def load(self, name: str, folder: Path, *, ends_move: bool = False) -> None: ...

    def unload(self, name: str, *, begins_move: bool = False) -> None: ...


class Folders(Protocol):
    """Keeps adapters' folders by digest."""

    def path(self, digest: str) -> Path: ...

    def is_complete(self, digest: str) -> bool: ...

    def fetch(self, adapter: WantedAdapter) -> None: ...

    def remove(self, digest: str) -> None: ...


class AdapterWork:
    """Does one action at a time for each caller."""

    def __init__(self, engine: LoadingEngine, folders: Folders) -> None:
        self._engine = engine
        self._folders = folders
        self._moving = threading.Lock()
        self._measuring = threading.Lock()
        self._base: tuple[int, BaseMeasurement] | None = None

    def do(self, action: AgentAction, model: str, engine_start: int) -> FinishedAction:
        """Does it, and returns how it ended; what is no StepError is raised. `model` is the base's name."""
        try:
            proof = self._do(action, model, engine_start)
        except StepError as error:
            gone = isinstance(action, LoadAdapter) and not self._folders.is_complete(action.adapter.digest)
            return FinishedAction(action, engine_start, error, folder_is_gone=gone)
        return FinishedAction(action, engine_start, proof=proof)

    def _do(self, action: AgentAction, model: str, engine_start: int) -> EffectProof | None:
        match action:
            case FetchFolder(adapter):
                self._folders.fetch(adapter)
            case RemoveFolder(digest):
                self._folders.remove(digest)
            case LoadAdapter(adapter, name):
                self._engine.load(name, self._folders.path(adapter.digest))
            case ProveAdapter(adapter, name):
                return prove(self._engine, self._measured_base(model, engine_start), adapter, name)
            case MoveName(adapter, former):
                self._move(adapter, former)
            case UnloadName(name):
                self._engine.unload(name)
        return None

    def _measured_base(self, model: str, engine_start: int) -> BaseMeasurement:
        """Returns the base's measurement, made once for each start of the engine."""
        with self._measuring:
            if self._base is None or self._base[0] != engine_start:
                self._base = (engine_start, measure_base(self._engine, model))
            return self._base[1]

    def _move(self, adapter: WantedAdapter, former: str | None) -> None:
        """Gives the public name to a version; the former one gets it back if the engine refuses."""
        folder = self._folders.path(adapter.digest)
        if former is None:
            self._engine.load(adapter.name, folder)
            return
        with self._moving:
            self._engine.unload(adapter.name, begins_move=True)
            try:
                self._engine.load(adapter.name, folder, ends_move=True)
            except StepError:
                with suppress(StepError):
                    self._engine.load(adapter.name, self._folders.path(former), ends_move=True)
                raise
