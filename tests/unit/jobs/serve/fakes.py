"""An engine and folders in memory, and a run of the agent's core on them in any order."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftm_jobs.contract.run_time_adapters import WantedAdapter, WantedAdapters, WantedPrompt
from ftm_jobs.errors import Failed, InvalidInput, Reason, StepError
from ftm_jobs.serve.actions import AgentAction, FolderAction, next_actions
from ftm_jobs.serve.proof import LEAST_ROUNDING
from ftm_jobs.serve.state import AgentState, FinishedAction
from ftm_jobs.serve.trials import EngineError
from ftm_jobs.serve.work import AdapterWork

BASE = "base"
FOLDER_BYTES = 10


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def wanted(name: str, number: int, **fields: Any) -> WantedAdapter:
    return WantedAdapter(
        name=name, artifact=f"s3://artifacts/{number}", digest=digest(number), total_bytes=FOLDER_BYTES, **fields
    )


class FakeFolders:
    """Folders that are fetched whole."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.errors: dict[str, StepError] = {}

    def path(self, digest: str) -> Path:
        return Path("/adapters", digest)

    def is_complete(self, digest: str) -> bool:
        return digest in self.there

    def fetch(self, adapter: WantedAdapter) -> None:
        if adapter.digest in self.errors:
            raise self.errors[adapter.digest]
        self.there.add(adapter.digest)

    def remove(self, digest: str) -> None:
        self.there.discard(digest)


class FakeEngine:
    """Holds names, and answers by the number in the digest: those of `idle` change nothing, of `broken` never load."""

    def __init__(self, folders: FakeFolders) -> None:
        self.folders = folders
        self.held: dict[str, str] = {}
        self.is_up = True
        self.idle: set[str] = set()
        self.broken: set[str] = set()
        self.calls = 0
        self.fails_in: int | None = None
        """The number of calls after which it is not reached once."""
        self.noted: list[tuple[str, str]] = []
        """Names and digests, in the order of loading."""

    def load(self, name: str, folder: Path, *, ends_move: bool = False) -> None:  # noqa: ARG002
        self._call()
        if folder.name not in self.folders.there:
            raise EngineError(Reason.ENGINE_REFUSED, f"No adapter found for {folder}")
        if folder.name in self.broken:
            raise EngineError(Reason.ENGINE_REFUSED, "LoRA rank 64 is greater than max_lora_rank 8")
        if name in self.held:
            raise InvalidInput(Reason.ENGINE_REFUSED, f"The lora adapter '{name}' has already been loaded.")
        self.held[name] = folder.name
        self.noted.append((name, folder.name))

    def unload(self, name: str, *, begins_move: bool = False) -> None:  # noqa: ARG002
        self._call()
        self.held.pop(name, None)

    def next_tokens(self, model: str, texts: Sequence[str]) -> list[dict[str, float]]:
        self._call()
        if model != BASE and model not in self.held:
            raise EngineError(Reason.ENGINE_REFUSED, f"The model `{model}` does not exist.")
        moved = model != BASE and self.held[model] not in self.idle
        return [{"a": -1.0, "b": -2.0 - (4 * LEAST_ROUNDING if moved else 0.0)} for _ in texts]

    def answer(self, model: str, prompt: WantedPrompt) -> str:  # noqa: ARG002
        self._call()
        return self.held[model]

    def _call(self) -> None:
        self.calls += 1
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                self.fails_in = None
                raise Failed(Reason.ENGINE_UNAVAILABLE, "the engine does not answer")
        if not self.is_up:
            raise Failed(Reason.ENGINE_UNAVAILABLE, "the engine does not answer")


class World:
    """The agent's state, beside an engine and folders, with actions that run and end in any order."""

    def __init__(self, disk_bytes: int | None = None, seed: int = 0) -> None:
        self.folders = FakeFolders()
        self.engine = FakeEngine(self.folders)
        self.work = AdapterWork(self.engine, self.folders)
        self.state = AgentState({}, disk_bytes, 0.0)
        self.now = 0.0
        self.random = random.Random(seed)
        self.begun: list[tuple[AgentAction, int]] = []
        """Actions that were begun and not done, with the engine's start that they are for."""
        self.removed: list[str] = []

    def want(self, *adapters: WantedAdapter) -> None:
        self.state.want(WantedAdapters(model=BASE, adapters=adapters))

    def restart(self) -> None:
        self.engine.held.clear()

    def look(self) -> None:
        """Looks at the engine as the agent's loop does."""
        if not self.engine.is_up:
            self.state.engine_lost()
        elif not self.state.asks_engine:
            self.state.engine_listed(dict(self.engine.held))

    def begin(self, most: int = 4) -> None:
        for action in next_actions(self.state.situation(self.now)):
            if len(self.begun) >= most:
                break
            if isinstance(action, FolderAction) or not self.state.is_unsure:
                self.state.begin(action)
                self.begun.append((action, self.state.engine_starts))

    def end_one(self) -> FinishedAction | None:
        """Does one of the actions that were begun."""
        if not self.begun:
            return None
        action, start = self.begun.pop(self.random.randrange(len(self.begun)))
        finished = self.work.do(action, BASE, start)
        self.state.finish(finished, self.now, 0.5)
        return finished

    def settle(self, passes: int = 2000) -> None:
        """Goes on until nothing is to be done, with time passing."""
        for _ in range(passes):
            self.now += 1.0
            self.look()
            self.begin()
            if self.end_one() is None and self._is_quiet():
                return
        raise AssertionError(f"it does not come to rest: {self.begun}, {self.engine.held}")

    def _is_quiet(self) -> bool:
        later = self.state.situation(self.now + 1e6)
        return not any(True for _ in next_actions(later))

    @property
    def held(self) -> Mapping[str, str]:
        return self.engine.held
