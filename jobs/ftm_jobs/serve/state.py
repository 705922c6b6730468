"""Keeps what the agent knows: what is wanted, what the engine holds, the folders, and how each trial went.

The main thread alone changes it. An action's outcome counts only for the start of the engine that it was meant for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ftm_jobs.contract.run_time_adapters import WantedAdapters
from ftm_jobs.errors import StepError
from ftm_jobs.serve.actions import (
    AgentAction,
    EngineAction,
    FetchFolder,
    LoadAdapter,
    MoveName,
    ProveAdapter,
    RemoveFolder,
    Situation,
    StoredFolder,
    UnloadName,
    subjects,
)
from ftm_jobs.serve.trials import NOT_TRIED, AdapterTrial, EffectProof


@dataclass(frozen=True)
class FinishedAction:
    """An action, and how it ended."""

    action: AgentAction
    engine_start: int
    """The engine's start that it was meant for, counted from 1."""
    error: StepError | None = None
    proof: EffectProof | None = None
    folder_is_gone: bool = False
    """The adapter's folder was not complete when the engine refused it."""


class AgentState:
    """Everything that decides what is done next."""

    def __init__(self, stored: Mapping[str, int], disk_bytes: int | None, now: float) -> None:
        """`stored` are bytes of complete folders by digest."""
        self.wanted = WantedAdapters(model="")
        self.held: dict[str, str] | None = None
        """Digests by name, as the engine holds them; None while it does not answer."""
        self.engine_starts = 0
        self.unloaded = 0
        """Names that were unloaded since the engine started."""
        self.required: frozenset[str] = frozenset()
        """The names that were wanted when the engine started."""
        self.is_unsure = False
        """The engine may hold something else than `held`: nothing is asked of it before it is listed again."""
        self._stored = {digest: StoredFolder(size, now) for digest, size in stored.items()}
        self._trials: dict[tuple[str, str], AdapterTrial] = {}
        self._busy: dict[str, AgentAction] = {}
        self._disk_bytes = disk_bytes

    def situation(self, now: float) -> Situation:
        return Situation(
            self.wanted, self.held, self._stored, self._trials, frozenset(self._busy), self._disk_bytes, now
        )

    @property
    def asks_engine(self) -> bool:
        """True while an action of the engine's runs."""
        return any(isinstance(action, EngineAction) for action in self._busy.values())

    def want(self, wanted: WantedAdapters) -> None:
        """Takes what is wanted from now on; a version whose policy or prompts changed is tried and proven anew."""
        before = {(adapter.name, adapter.digest): adapter for adapter in self.wanted.adapters}
        now = {(adapter.name, adapter.digest): adapter for adapter in wanted.adapters}
        self._trials = {key: trial for key, trial in self._trials.items() if key in now and now[key] == before.get(key)}
        self.wanted = wanted

    def engine_lost(self) -> None:
        self.held = None

    def engine_listed(self, held: Mapping[str, str]) -> None:
        """Takes what the engine says that it holds. One that lacks what it held was started anew."""
        if self.held is None or any(held.get(name) != digest for name, digest in self.held.items()):
            self.engine_starts += 1
            self.unloaded = 0
            self.required = frozenset(adapter.name for adapter in self.wanted.adapters)
            stored = {adapter.digest for adapter in self.wanted.adapters} - self._stored.keys()
            self._trials = {key: trial for key, trial in self._trials.items() if key[1] in stored}
        self.held = dict(held)
        self.is_unsure = False

    def begin(self, action: AgentAction) -> None:
        for subject in subjects(action):
            self._busy[subject] = action
        if isinstance(action, RemoveFolder):
            self._stored.pop(action.digest, None)

    def finish(self, finished: FinishedAction, now: float, jitter: float) -> None:
        """Takes the outcome of an action. `jitter` is a random number from 0 to 1."""
        action = finished.action
        for subject in subjects(action):
            self._busy.pop(subject, None)
        if isinstance(action, RemoveFolder):
            return
        if isinstance(action, FetchFolder):
            if not finished.error:
                self._stored[action.adapter.digest] = StoredFolder(action.adapter.total_bytes, now)
        elif self.held is None or finished.engine_start != self.engine_starts:
            return
        key = (action.name, "") if isinstance(action, UnloadName) else (action.adapter.name, action.adapter.digest)
        trial = self._trials.get(key, NOT_TRIED)
        if finished.error:
            self._trials[key] = trial.after_error(finished.error, now, jitter)
            self.is_unsure = self.is_unsure or not isinstance(action, FetchFolder)
            if finished.folder_is_gone:
                self._stored.pop(key[1], None)
        elif isinstance(action, ProveAdapter) and finished.proof:
            self._trials[key] = trial.after_proof(finished.proof, blocks=action.adapter.policy == "Block")
        else:
            self._trials[key] = trial.after_success()
            self._note(action, now)

    def _note(self, action: AgentAction, now: float) -> None:
        """Notes what the engine holds after an action that went well."""
        held = self.held if self.held is not None else {}
        former: str | None = None
        match action:
            case LoadAdapter(adapter, name):
                held[name] = adapter.digest
            case MoveName(adapter):
                former = held.get(adapter.name)
                held[adapter.name] = adapter.digest
                self.unloaded += former is not None
            case UnloadName(name):
                former = held.pop(name, None)
                self.unloaded += 1
                self._trials.pop((name, ""), None)
        if former in self._stored:
            self._stored[former] = replace(self._stored[former], last_held=now)
