"""Decides what the agent does next, so that the engine comes to hold the adapters that are wanted.

A version of an adapter comes to its public name in steps, each an action of its own:

    FetchFolder    its files are in a folder that is named by its digest
    LoadAdapter    the engine holds it under a name of its own, the proving name
    ProveAdapter   there it has an effect, and answers as expected
    MoveName       the public name is taken from the former version, which answered until now, and given to this one
    UnloadName     the proving name goes; so does every name that is not wanted

So a name never answers with a version that was not proven. A version that fails stays away from the name and stops
nothing else. The engine's own list of names and folders is what is known of it: after its restart that is empty, and
all steps but the first are done again. Pure: the clock is passed in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ftm_jobs.contract.run_time_adapters import WantedAdapter, WantedAdapters
from ftm_jobs.serve.trials import NOT_TRIED, AdapterTrial

GRACE_SECONDS = 60.0
"""A folder stays for this long after the engine held it last: a request that began before may read it anew."""


@dataclass(frozen=True)
class StoredFolder:
    """An adapter's complete folder on the local disk."""

    total_bytes: int
    last_held: float
    """The time at which the engine was last known to hold it, or at which it was fetched."""


@dataclass(frozen=True)
class FetchFolder:
    adapter: WantedAdapter


@dataclass(frozen=True)
class LoadAdapter:
    adapter: WantedAdapter
    name: str


@dataclass(frozen=True)
class ProveAdapter:
    adapter: WantedAdapter
    name: str
    """The name under which the engine holds it."""


@dataclass(frozen=True)
class MoveName:
    adapter: WantedAdapter
    former: str | None
    """The digest of the version that has the name now."""


@dataclass(frozen=True)
class UnloadName:
    name: str


@dataclass(frozen=True)
class RemoveFolder:
    digest: str


FolderAction = FetchFolder | RemoveFolder
EngineAction = LoadAdapter | ProveAdapter | MoveName | UnloadName
AgentAction = FolderAction | EngineAction


def subjects(action: AgentAction) -> frozenset[str]:
    """Returns the names or the digest that an action is about: of two with one in common, one waits."""
    match action:
        case FetchFolder(adapter):
            return frozenset({adapter.digest})
        case RemoveFolder(digest):
            return frozenset({digest})
        case UnloadName(name):
            return frozenset({name})
        case MoveName(adapter):
            return frozenset({adapter.name})
        case LoadAdapter(adapter, name) | ProveAdapter(adapter, name):
            return frozenset({adapter.name, name})


@dataclass(frozen=True)
class Situation:
    """All that the agent knows at one time."""

    wanted: WantedAdapters
    held: Mapping[str, str] | None
    """Digests by the names under which the engine holds adapters; None while it does not answer."""
    stored: Mapping[str, StoredFolder]
    """Complete folders by digest."""
    trials: Mapping[tuple[str, str], AdapterTrial] = field(default_factory=dict)
    """Trials of versions, by name and digest; of a name that is to be unloaded, by the name and no digest."""
    busy: frozenset[str] = frozenset()
    """Names and digests that an action is about now."""
    disk_bytes: int | None = None
    """The most that all folders may take; None: no bound, and folders that nothing uses go."""
    now: float = 0.0

    def trial(self, adapter: WantedAdapter) -> AdapterTrial:
        return self.trials.get((adapter.name, adapter.digest), NOT_TRIED)


def next_actions(situation: Situation) -> Iterator[AgentAction]:
    """Yields what can be done now, for each adapter at most one action."""
    yield from _of_folders(situation)
    if situation.held is None:
        return
    public = {adapter.name for adapter in situation.wanted.adapters}
    kept = set(public)
    for adapter in situation.wanted.adapters:
        proving = proving_name(adapter, public)
        kept.add(proving)
        action = _next(situation, situation.held, adapter, proving)
        if action and not subjects(action) & situation.busy and _is_due(situation, action):
            yield action
    for name in situation.held:
        unload = UnloadName(name)
        if name not in kept and name not in situation.busy and _is_due(situation, unload):
            yield unload


def _is_due(situation: Situation, action: EngineAction) -> bool:
    """Returns False while it is to be tried again later."""
    key = (action.name, "") if isinstance(action, UnloadName) else (action.adapter.name, action.adapter.digest)
    return situation.trials.get(key, NOT_TRIED).retry_at <= situation.now


def proving_name(adapter: WantedAdapter, public: set[str]) -> str:
    """Returns the name under which a version is proven, which is nobody's public name."""
    name = adapter.versioned_name
    while name in public:
        name += "-"
    return name


def _next(situation: Situation, held: Mapping[str, str], adapter: WantedAdapter, proving: str) -> EngineAction | None:
    trial, serves = situation.trial(adapter), held.get(adapter.name)
    if trial.has_failed:
        unproven = proving if proving in held else adapter.name if serves == adapter.digest else None
        return UnloadName(unproven) if unproven else None
    if adapter.digest not in situation.stored:
        return None
    if trial.proof is None:
        return _to_prove(held, adapter, proving)
    if serves != adapter.digest:
        return MoveName(adapter, serves)
    return UnloadName(proving) if proving in held else None


def _to_prove(held: Mapping[str, str], adapter: WantedAdapter, proving: str) -> EngineAction:
    """Returns the step towards a proof; a version that has its public name already is proven under that."""
    for name in (adapter.name, proving):
        if held.get(name) == adapter.digest:
            return ProveAdapter(adapter, name)
    return UnloadName(proving) if proving in held else LoadAdapter(adapter, proving)


def _of_folders(situation: Situation) -> Iterator[AgentAction]:
    """Yields fetches as far as there is room, and the removal of what is unused, the oldest first.

    Nothing is removed while the engine does not say what it holds: it ends if it is asked for what it cannot read.
    """
    due = [
        adapter
        for adapter in _missing(situation)
        if adapter.digest not in situation.busy and situation.trial(adapter).retry_at <= situation.now
    ]
    used, bound = _used_bytes(situation), situation.disk_bytes
    excess = used + sum(adapter.total_bytes for adapter in due) - (bound or 0)
    for digest, folder in _unused(situation):
        if situation.held is None or (bound is not None and excess <= 0):
            break
        if digest not in situation.busy and situation.now - folder.last_held >= GRACE_SECONDS:
            excess -= folder.total_bytes
            yield RemoveFolder(digest)
    for adapter in due:
        if bound is None or used + adapter.total_bytes <= bound:
            used += adapter.total_bytes
            yield FetchFolder(adapter)


def without_room(situation: Situation) -> set[str]:
    """Returns the digests that do not fit the disk, even without all that is unused."""
    if situation.disk_bytes is None:
        return set()
    used = _used_bytes(situation) - sum(folder.total_bytes for _, folder in _unused(situation))
    lacking = set()
    for adapter in _missing(situation):
        if adapter.digest in situation.busy:
            continue
        if used + adapter.total_bytes > situation.disk_bytes:
            lacking.add(adapter.digest)
        else:
            used += adapter.total_bytes
    return lacking


def _missing(situation: Situation) -> Iterator[WantedAdapter]:
    """Yields an adapter for each digest that is wanted, has not failed and is not here."""
    seen = set(situation.stored)
    for adapter in situation.wanted.adapters:
        if adapter.digest not in seen and not situation.trial(adapter).has_failed:
            seen.add(adapter.digest)
            yield adapter


def _used_bytes(situation: Situation) -> int:
    """Returns the bytes of all folders, those that are being fetched included."""
    fetched = {
        adapter.digest: adapter.total_bytes
        for adapter in situation.wanted.adapters
        if adapter.digest in situation.busy and adapter.digest not in situation.stored
    }
    return sum(folder.total_bytes for folder in situation.stored.values()) + sum(fetched.values())


def _unused(situation: Situation) -> list[tuple[str, StoredFolder]]:
    """Returns the folders that are neither wanted nor held, the oldest first."""
    used = {adapter.digest for adapter in situation.wanted.adapters} | set((situation.held or {}).values())
    unused = [(digest, folder) for digest, folder in situation.stored.items() if digest not in used]
    return sorted(unused, key=lambda each: each[1].last_held)
