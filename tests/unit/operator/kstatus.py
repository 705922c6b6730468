"""The rules that a status must keep for kstatus and Flux to read it, as a checker for tests.

Source: kstatus' generic status and Flux's conditions checker.
"""

from typing import Any


def violations(item: dict[str, Any]) -> list[str]:
    """Returns what is wrong with a reconciled resource's status; empty when it keeps every rule."""
    status, generation = item["status"], item["metadata"]["generation"]
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    raised = [kind for kind in ("Reconciling", "Stalled") if kind in conditions]
    ready = conditions.get("Ready")
    found = []
    if ready is None:
        return ["Ready is absent"]
    if any(conditions[kind]["status"] != "True" for kind in raised):
        found.append("Reconciling and Stalled may only be True")
    if len(raised) == 2:
        found.append("Reconciling and Stalled are both there")
    if raised and ready["status"] != "False":
        found.append(f"{raised[0]} is there while Ready is {ready['status']}")
    if status["observedGeneration"] > generation:
        found.append("observedGeneration is ahead of generation")
    if ready["status"] == "True" and not status["observedGeneration"] == ready["observedGeneration"] == generation:
        found.append("Ready is True for an older generation")
    return found
