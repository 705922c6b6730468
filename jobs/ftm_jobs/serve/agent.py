"""Runs the agent: reads what is wanted, does what is to be done next, and says on stdout what the engine holds."""

import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ftm_jobs.contract.run_time_adapters import HELD_PART, AdapterState, HeldAdapters
from ftm_jobs.errors import StepError
from ftm_jobs.serve.actions import AgentAction, FolderAction, next_actions
from ftm_jobs.serve.engine import VllmClient
from ftm_jobs.serve.folders import AdapterFolders
from ftm_jobs.serve.held import held_adapters, unanswered
from ftm_jobs.serve.state import AgentState, FinishedAction
from ftm_jobs.serve.wanted_file import WantedFile
from ftm_jobs.serve.work import AdapterWork

FETCHES_AT_ONCE = 3
ENGINE_CALLS_AT_ONCE = 4
HEALTH_SECONDS = 1.0
"""Between two looks at the engine's health and at the wanted file."""
LIST_SECONDS = 10.0
"""Between two lists of what the engine holds, while nothing is asked of it."""
GATHER_SECONDS = 0.02
"""Outcomes that come within these are looked at together."""
SAY_SECONDS = 1.0
"""The least between two snapshots, for each of their lines while adapters are being loaded: logs are bounded."""
REPEAT_SECONDS = 300.0
"""A snapshot is written anew after these: logs are rotated."""
MOST_NAMES = 3


@dataclass
class Times:
    """When things were done last, by the clock of time.monotonic."""

    health: float = float("-inf")
    listed: float = float("-inf")
    compared: float = float("-inf")
    said: float = float("-inf")


class AdapterAgent:
    """Makes one engine hold the wanted adapters until it is interrupted."""

    def __init__(self, wanted: WantedFile, engine: VllmClient, folders: AdapterFolders, disk_bytes: int | None) -> None:
        """Raises StepError where the folders cannot be read."""
        self._wanted = wanted
        self._engine = engine
        self._folders = folders
        self._work = AdapterWork(engine, folders)
        self._state = AgentState(folders.complete(), disk_bytes, time.monotonic())
        self._outcomes: queue.SimpleQueue[FinishedAction | Exception] = queue.SimpleQueue()
        self._fetching = ThreadPoolExecutor(FETCHES_AT_ONCE, "fetch")
        self._asking = ThreadPoolExecutor(ENGINE_CALLS_AT_ONCE, "engine")
        self._running = {self._fetching: 0, self._asking: 0}
        self._times = Times()
        self._lost = threading.Event()
        self._missing: tuple[str, ...] | None = None
        """The names that the engine is still to answer for before it is ready; None while it does not answer."""
        self._snapshot = 0
        self._said: HeldAdapters | None = None

    def run(self) -> None:
        """Runs until it is interrupted. Raises what is a defect of its own."""
        try:
            while True:
                self._look()
                self._begin_actions()
                self._say()
                self._gather()
        finally:
            for pool in self._running:
                pool.shutdown(wait=False, cancel_futures=True)

    def unready(self) -> str | None:
        """Returns why the engine is not ready now; None when it is. May be called from any thread."""
        if not self._engine.is_up():
            self._lost.set()
            return "the engine does not answer"
        missing = self._missing
        if missing is None or self._lost.is_set():
            return "the engine has just started"
        if missing:
            shown = ", ".join(missing[:MOST_NAMES])
            more = f" and {len(missing) - MOST_NAMES} more" if len(missing) > MOST_NAMES else ""
            return f"the engine does not answer yet for {shown}{more}"
        return None

    def _look(self) -> None:
        """Looks at what is wanted and at the engine."""
        now, state = time.monotonic(), self._state
        is_due = now - self._times.health >= HEALTH_SECONDS
        if is_due and self._wanted.refresh():
            state.want(self._wanted.wanted)
        if self._lost.is_set():
            state.engine_lost()
            self._lost.clear()
        elif is_due:
            self._times.health = now
            if not self._engine.is_up():
                state.engine_lost()
        is_old = now - self._times.listed >= LIST_SECONDS or state.is_unsure
        if (state.held is None and is_due) or (is_old and state.held is not None and not state.asks_engine):
            self._list(now)
            is_due = True
        if state.held is None:
            self._missing = None
        elif is_due:
            self._missing = tuple(unanswered(state.situation(now), state.required))

    def _list(self, now: float) -> None:
        """Takes from the engine what it holds of ours."""
        self._times.listed = now
        try:
            folders = self._engine.folders()
        except StepError:
            self._state.engine_lost()
            return
        digests = ((name, self._folders.digest(folder)) for name, folder in folders.items())
        self._state.engine_listed({name: digest for name, digest in digests if digest})

    def _begin_actions(self) -> None:
        """Begins as many actions as may run at once."""
        state = self._state
        for action in next_actions(state.situation(time.monotonic())):
            of_folder = isinstance(action, FolderAction)
            pool, most = (self._fetching, FETCHES_AT_ONCE) if of_folder else (self._asking, ENGINE_CALLS_AT_ONCE)
            if self._running[pool] < most and (of_folder or not state.is_unsure):
                state.begin(action)
                self._running[pool] += 1
                pool.submit(self._do, action, state.wanted.model, state.engine_starts)
            if all(self._running[pool] == most for pool, most in self._limits()):
                break

    def _limits(self) -> tuple[tuple[ThreadPoolExecutor, int], ...]:
        return (self._fetching, FETCHES_AT_ONCE), (self._asking, ENGINE_CALLS_AT_ONCE)

    def _do(self, action: AgentAction, model: str, engine_start: int) -> None:
        try:
            self._outcomes.put(self._work.do(action, model, engine_start))
        except Exception as error:  # noqa: BLE001 - raised where it ends the agent
            self._outcomes.put(error)

    def _gather(self) -> None:
        """Waits for outcomes, and takes those that there are."""
        try:
            outcomes = [self._outcomes.get(timeout=HEALTH_SECONDS)]
        except queue.Empty:
            return
        time.sleep(GATHER_SECONDS)
        while not self._outcomes.empty():
            outcomes.append(self._outcomes.get())
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            self._running[self._fetching if isinstance(outcome.action, FolderAction) else self._asking] -= 1
            self._state.finish(outcome, time.monotonic(), random.random())

    def _say(self, write: Callable[[str], object] = sys.stdout.write) -> None:
        """Writes a snapshot if it is another than before, or an old one."""
        now, state = time.monotonic(), self._state
        if now - self._times.compared < SAY_SECONDS:
            return
        self._times.compared = now
        adapters = held_adapters(state.situation(now))
        held = HeldAdapters(
            snapshot=0,
            wanted=self._wanted.hash,
            engine_ready=state.held is not None,
            unloaded=state.unloaded,
            adapters=adapters,
        )
        is_settled = all(adapter.state is not AdapterState.LOADING for adapter in adapters)
        pause = SAY_SECONDS if is_settled else SAY_SECONDS * len(adapters) / HELD_PART
        since = now - self._times.said
        if since < pause or (held == self._said and since < REPEAT_SECONDS):
            return
        self._snapshot += 1
        self._said, self._times.said = held, now
        write("".join(f"{line}\n" for line in held.model_copy(update={"snapshot": self._snapshot}).lines()))
        sys.stdout.flush()
