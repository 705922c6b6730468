"""Holds names that requests are divided under: two versions of an adapter at one name, each with a weight."""

from typing import Annotated

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, Resource, matches

SERVED_NAME = matches(
    r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*",
    "{value} cannot be a served name; write letters, digits and . _ : / @ + -, without spaces",
)


class ServedTarget(Resource):
    """An adapter that gets a part of the requests for a name."""

    adapter: Annotated[str, Field(min_length=1, max_length=128), SERVED_NAME]
    """The name that the adapter itself is served under."""
    weight: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1
    """Its part of the requests, beside the weights of the others."""


class ServedName(Resource):
    """A name in the field `model` of requests, and the adapters that answer to it."""

    name: Annotated[str, Field(min_length=1, max_length=128), SERVED_NAME]
    """The value of `model` in requests."""
    targets: Annotated[tuple[ServedTarget, ...], Field(min_length=1, max_length=16), ATOMIC_LIST]
    """The adapters."""
