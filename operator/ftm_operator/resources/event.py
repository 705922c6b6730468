"""Builds an Event about a FineTunedModel."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ftm_operator.api.texts import in_bytes
from ftm_operator.resources.metadata import MANAGER, Manifest

MESSAGE_BYTES = 1024
"""The API server refuses longer ones."""


@dataclass(frozen=True)
class Notice:
    """An Event to be posted."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def event(resource: Manifest, notice: Notice, now: datetime) -> Manifest:
    """Returns the Event of a notice."""
    metadata = resource["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "name": name,
            "namespace": namespace,
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": in_bytes(notice.message, MESSAGE_BYTES),
        "source": {"component": MANAGER},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
