"""Reads the events of a streamed answer: lines of `data: ` and JSON, as OpenAI-compatible endpoints send them. Pure."""

import json
from typing import Any

DATA = b"data:"
DONE = b"[DONE]"
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
"""Raised for events that are no JSON, or not of the API's shape."""


def read_event(line: bytes) -> dict[str, Any] | None:
    """Returns a line's document, {} at the stream's own end, None where the line has none. Raises one of UNREADABLE."""
    if not line.startswith(DATA):
        return None
    data = line.removeprefix(DATA).strip()
    document = {} if data == DONE else json.loads(data)
    if not isinstance(document, dict):
        raise TypeError("an event is no JSON object")
    return document
