"""The form of every record that the operator and its Jobs exchange: frozen, camelCase in JSON.

Facts and artifacts appear as they are in a FineTunedModel's status, hence camelCase.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Notes = Annotated[tuple[str, ...], Field(exclude_if=lambda notes: not notes)]
"""Sentences for people; JSON has none where there are none."""


class Contract(BaseModel):
    """Frozen, camelCase in JSON; fields that a newer peer added are ignored. Docstrings of fields are in the CRD."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True
    )

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
