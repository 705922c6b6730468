"""Keeps the Leases of an operator's scopes, and says for which it writes and for which it stands by.

An operator that stands by watches and lists all the same, so that it goes on at once when it may.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from ftm_operator.runtime.cluster import ApiError
from ftm_operator.runtime.election.lease import RETRY_SECONDS, Identity
from ftm_operator.runtime.election.scopes import Scope

log = logging.getLogger(__name__)


class Leadership:
    """The right to write, in each scope."""

    def __init__(self, scopes: Sequence[Scope], me: Identity, attempted: Callable[[], None]) -> None:
        """`attempted` is called after each attempt, since what may be written can have changed."""
        self._scopes = scopes
        self._me = me
        self._attempted = attempted
        self._said: dict[tuple[str, str], str] = {}
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Acquires and renews until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(self._keep(scope), name=f"lease-{scope.name}")

    async def release(self) -> None:
        """Leaves all Leases; one that cannot be left expires."""
        for scope in self._scopes:
            try:
                await scope.release()
            except ApiError as error:
                log.warning("%s: the Lease is not released: %s", scope.name, error)

    def seconds_left(self, namespace: str) -> float:
        """Returns for how long this operator may write in the namespace; 0 or less if it may not."""
        return max(scope.seconds_left(namespace) for scope in self._scopes)

    def held_by_others(self) -> dict[str, str]:
        """Returns who holds what this operator stands by for, by the names of scopes."""
        return {name: holder for scope in self._scopes for name, holder in scope.held_by_others().items()}

    def served(self) -> dict[str, bool]:
        """Returns whether this operator serves each scope, by its name."""
        return {scope.name: scope.is_held for scope in self._scopes}

    def fault(self) -> str | None:
        """Returns in one sentence why a Lease can be neither had nor waited for."""
        return next(iter(self._faults.values()), None)

    async def _keep(self, scope: Scope) -> None:
        while True:
            await self.attempt(scope)
            self._attempted()
            await asyncio.sleep(RETRY_SECONDS * random.uniform(1, 1.2))

    async def attempt(self, scope: Scope) -> None:
        """Tries once to acquire or renew the scope's Lease, and says what is new."""
        try:
            await scope.attempt()
        except ApiError as error:
            fault = f"{scope.name}: the Lease by which one operator writes at a time cannot be kept: {error}"
            if self._faults.get(scope.name) != fault:
                log.warning("%s", fault)
            self._faults[scope.name] = fault
            return
        self._faults.pop(scope.name, None)
        self._say(scope)

    def _say(self, scope: Scope) -> None:
        """Logs who serves a scope, once for each change."""
        others = scope.held_by_others()
        news = {name: f"{holder} holds the Lease; this operator stands by" for name, holder in others.items()}
        if scope.is_held:
            news[scope.name] = f"this operator serves it, as {self._me.holder}"
        for name, text in news.items():
            if self._said.get((scope.name, name)) != text:
                is_other = name in others and not others[name].startswith(f"{self._me.installation}/")
                log.log(logging.WARNING if is_other else logging.INFO, "%s: %s", name, text)
        for of, name in list(self._said):
            if of == scope.name and name not in news:
                log.info("%s: nobody else holds the Lease any more", name)
                del self._said[of, name]
        self._said.update({(scope.name, name): text for name, text in news.items()})
