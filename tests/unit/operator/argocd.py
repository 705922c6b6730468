"""The health script that the chart ships for Argo CD, run as Argo CD runs it: Lua 5.1 without its libraries."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lupa import lua51  # type: ignore[import-untyped]

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.runtime.resource_queue import KINDS
from tests.unit.operator.kstatus import Item, Status, computed

FOLDER = Path("charts/ftm-operator/argocd/resource_customizations/ftm.dev")
SCRIPTS = {kind: Path(__file__).parents[3] / FOLDER / kind / "health.lua" for kind in KINDS}
SCRIPT = SCRIPTS[KIND]
LIBRARIES_THAT_ARGO_OPENS = ("ipairs", "pairs", "next", "table", "tostring", "type")
AS_KSTATUS_SAYS: dict[str, tuple[Status, ...]] = {
    "Healthy": ("Current",),
    "Degraded": ("Failed",),
    "Suspended": ("InProgress",),
    "Progressing": ("InProgress", "Terminating"),
}
"""What kstatus may say of a resource that Argo CD calls so."""


@dataclass(frozen=True)
class Health:
    status: str
    message: str


def health(item: Item) -> Health:
    runtime, script = _script(item.get("kind", KIND))
    found = script(runtime.table_from(_plain(item), recursive=True))
    return Health(found["status"], found["message"])


def disagreements(item: Item) -> list[str]:
    """Returns how Argo CD and kstatus differ on a resource; empty when they agree."""
    found, status = health(item), computed(item)
    return [] if status in AS_KSTATUS_SAYS[found.status] else [f"{found} to Argo CD is {status} to kstatus"]


@functools.cache
def _script(kind: str) -> tuple[Any, Any]:
    runtime = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    opened = ", ".join(f"{name} = {name}" for name in LIBRARIES_THAT_ARGO_OPENS)
    load = runtime.eval(
        f"function(text) return function(obj)"
        f" local chunk = assert(loadstring(text)); setfenv(chunk, {{obj = obj, {opened}}}); return chunk() end end"
    )
    return runtime, load(SCRIPTS[kind].read_text())


def _plain(value: Any) -> Any:
    """Returns the object as JSON would carry it to Argo CD: a null is absent."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
