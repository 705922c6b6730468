"""kstatus and Flux's rules for a status, as tests ask for them: what they read from it, and which rules it breaks.

Sources: cli-utils `pkg/kstatus/status` (`Compute`, without its rules for Kubernetes' own kinds) and fluxcd/pkg
`runtime/conditions/check/fail.go` (FAIL0001 to FAIL0011). tests/gitops compares both with the originals.
"""

from collections.abc import Mapping
from typing import Any, Literal

Item = Mapping[str, Any]
Status = Literal["Current", "InProgress", "Failed", "Terminating"]
NEGATIVE = ("Reconciling", "Stalled")


def computed(item: Item) -> Status:
    """Returns what kstatus makes of an object."""
    metadata, status = item["metadata"], item.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != metadata.get("generation", 0):
        return "InProgress"
    for condition in status.get("conditions", ()):
        if condition["status"] == "True" and condition["type"] in NEGATIVE:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((each["status"] for each in status.get("conditions", ()) if each["type"] == "Ready"), None)
    return "InProgress" if ready in {"False", "Unknown"} else "Current"


def violations(item: Item) -> list[str]:
    """Returns what is wrong with a reconciled resource's status; empty when it keeps every rule."""
    status, generation = item["status"], item["metadata"]["generation"]
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    if "Ready" not in conditions:
        return ["FAIL0002: Ready is absent"]
    ready, there = conditions["Ready"]["status"], [kind for kind in NEGATIVE if kind in conditions]
    raised = [kind for kind in there if conditions[kind]["status"] == "True"]
    stale = [kind for kind, condition in conditions.items() if condition["observedGeneration"] < generation]
    apart = [
        kind
        for kind, condition in conditions.items()
        if condition["observedGeneration"] != status["observedGeneration"]
    ]
    rules = {
        f"FAIL0001, FAIL0003 or FAIL0004: {raised} while Ready is {ready}": bool(raised) and ready != "False",
        "FAIL0005: Reconciling and Stalled are both there": len(there) == len(NEGATIVE),
        "FAIL0006: observedGeneration is ahead of generation": status["observedGeneration"] > generation,
        "FAIL0007: Ready is True for an older generation": ready == "True"
        and status["observedGeneration"] < generation,
        f"FAIL0008: {stale} are of an older generation while Ready is True": ready == "True" and bool(stale),
        f"FAIL0009: {apart} are of another generation than the status, which is Ready": ready == "True" and bool(apart),
        "FAIL0011: Ready is Unknown": ready == "Unknown",
        "Reconciling and Stalled may only be True": raised != there,
        "a condition is there twice": len(conditions) != len(status["conditions"]),
    }
    return [rule for rule, broken in rules.items() if broken]
