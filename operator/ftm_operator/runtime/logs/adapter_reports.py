"""Reads from agents' logs which adapters the engines hold.

Guarantees
- a pod whose agent has answered for what is wanted, with no adapter on its way, is read again only after one of its
  conditions changed, or after STALE_SECONDS;
- a pod that has not is read at delays that grow from the first to the last of POLL_SECONDS, and begin anew when other
  adapters are wanted;
- what was read of a container that has been started again since counts no more;
- a log that cannot be read fails no pass, and all pods of a model are read at the same time;
- nothing is said of a model before its logs were read once: an operator that starts knows as much as the one before.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.run_time_adapters import HELD_PART, AdapterState, HeldAdapters, newest
from ftm_operator.observe.adapter_pods import answering_pods, runs, with_agents
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.serving_labels import AGENT
from ftm_operator.runtime.cluster import ApiError, Cluster
from ftm_operator.runtime.view.object_cache import Key

POLL_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
STALE_SECONDS = 240.0
OTHER_LINES = 20
"""Lines of the log's end that may be something else than adapters."""
LINE_BYTES = 32 * 1024
log = logging.getLogger(__name__)


@dataclass
class _Agent:
    """An agent, and what is known of it."""

    runs: object
    """The pod and the runs of its containers that the answer is of."""
    is_ready: bool
    wanted: str | None
    """The hash of the adapters that were wanted when it was last read."""
    held: HeldAdapters | None = None
    reads: int = 0
    """Reads since something changed."""
    last_read: float = 0.0

    def due(self) -> float | None:
        """Returns when it is to be read again; None if only a change makes that worth it."""
        if self.reads == 0:
            return 0.0
        if self._is_settled():
            return None
        return self.last_read + POLL_SECONDS[min(self.reads, len(POLL_SECONDS)) - 1]

    def _is_settled(self) -> bool:
        if self.held is None or (self.wanted is not None and self.held.wanted != self.wanted):
            return False
        return all(adapter.state is not AdapterState.LOADING for adapter in self.held.adapters)


class AdapterReports:
    """The last answers of all models' agents."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._agents: dict[Key, dict[str, _Agent]] = {}
        self._known: set[Key] = set()
        """The models whose logs were read once."""
        self._locks: dict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, key: Key, pods: Sequence[Manifest], wanted: str | None, adapters: int) -> None:
        """Reads the logs that are due, of the model's pods; `adapters` are so many as are wanted."""
        async with self._locks[key]:
            agents = self._agents[key] = self._noted(key, pods, wanted)
            now = asyncio.get_running_loop().time()
            due = [name for name, agent in agents.items() if _is_due(agent, now)]
            await asyncio.gather(*(self._read(key[0], name, agents[name], adapters) for name in due))
            self._known.add(key)

    def is_known(self, key: Key) -> bool:
        """Tells whether the model's logs were read since this operator serves it."""
        return key in self._known

    def held(self, key: Key) -> Mapping[str, HeldAdapters]:
        """Returns what engines hold, by the names of the model's pods."""
        return {name: agent.held for name, agent in self._agents.get(key, {}).items() if agent.held}

    def seconds_to_next(self, key: Key, wanted: str | None) -> float | None:
        """Returns the seconds until a log of the model is to be read, if these adapters are wanted now."""
        now, agents = asyncio.get_running_loop().time(), self._agents.get(key, {}).values()
        times = [0.0 if agent.wanted != wanted else agent.due() for agent in agents]
        return min((max(0.0, time - now) for time in times if time is not None), default=None)

    def forget(self, key: Key) -> None:
        """Has everything of the model read anew, if it is asked for again."""
        self._agents.pop(key, None)
        self._known.discard(key)

    def _noted(self, key: Key, pods: Sequence[Manifest], wanted: str | None) -> dict[str, _Agent]:
        """Returns the agents that run now, each with what is still true of it."""
        before, noted = self._agents.get(key, {}), {}
        ready = {pod["metadata"]["name"] for pod in answering_pods(pods)}
        for pod in with_agents(pods):
            name = str(pod["metadata"]["name"])
            run, is_ready = runs(pod), name in ready
            agent = before.get(name)
            if agent is None or agent.runs != run:
                agent = _Agent(run, is_ready, wanted)
            elif (agent.is_ready, agent.wanted) != (is_ready, wanted):
                agent = _Agent(run, is_ready, wanted, agent.held)
            noted[name] = agent
        return noted

    async def _read(self, namespace: str, pod: str, agent: _Agent, adapters: int) -> None:
        most = max(adapters, len(agent.held.adapters) if agent.held else 0)
        lines = 2 * (most // HELD_PART + 1) + OTHER_LINES  # the end may begin amid an answer
        agent.reads += 1
        agent.last_read = asyncio.get_running_loop().time()
        try:
            text = await self._cluster.log_tail(namespace, pod, AGENT, lines, lines * LINE_BYTES)
        except ApiError as error:
            log.debug("%s/%s: %s", namespace, pod, error)
            return
        agent.held = newest(text.splitlines()) or agent.held


def _is_due(agent: _Agent, now: float) -> bool:
    time = agent.due()
    return now >= (time if time is not None else agent.last_read + STALE_SECONDS)
