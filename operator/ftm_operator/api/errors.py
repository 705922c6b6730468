"""Words the refusal of a manifest: a sentence for each problem, with the field, its value and the remedy."""

import difflib
import json
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
}
"""The kind of value to write instead, by pydantic's name of the problem."""


BOUNDS = {
    "greater_than": ("too small", "more than", "gt"),
    "greater_than_equal": ("too small", "at least", "ge"),
    "less_than": ("too large", "less than", "lt"),
    "less_than_equal": ("too large", "at most", "le"),
    "too_short": ("too few items", "at least", "min_length"),
    "too_long": ("too many items", "at most", "max_length"),
    "string_too_short": ("too short", "characters: at least", "min_length"),
    "string_too_long": ("too long", "characters: at most", "max_length"),
}
"""Fault, remedy, and where pydantic keeps the bound, by its name of the problem."""

Model = TypeVar("Model", bound=BaseModel)


class InvalidManifest(Exception):
    """A manifest that breaks a promise of its model; the text is one line per problem."""

    exit_code = 2

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


def parse(model: type[Model], document: object) -> Model:
    """Returns the document as a `model`. Raises InvalidManifest with all its problems."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidManifest(problems(error, model)) from None


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns one sentence per problem, in the manifest's order. `model` is what was validated."""
    return [
        f"{path(details['loc'])}: {_sentence(details, model)}" for details in error.errors() if not _is_echo(details)
    ]


def path(location: Location) -> str:
    """Returns the place of a problem as kubectl writes it: spec.adapters[0].uri."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.lstrip(".") or "manifest"


def _is_echo(details: ErrorDetails) -> bool:
    """Returns whether the problem is another's echo: pydantic counts the good items of a list only."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _sentence(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    shown = json.dumps(value, ensure_ascii=False, default=str)
    if kind == "rule":
        return details["msg"]
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return _unknown_field(details["loc"], model)
    if kind == "literal_error":
        return f"{shown} is not a choice; write {str(context['expected']).replace(chr(39), '')}"
    if kind in WANTED:
        return f"{shown} is not {WANTED[kind]}"
    if kind in BOUNDS:
        fault, remedy, bound = BOUNDS[kind]
        return f"{shown} is {fault}; write {remedy} {context[bound]:g}"
    return f"{shown}: {details['msg']}"


def _unknown_field(location: Location, model: type[BaseModel]) -> str:
    owner, written = location[:-1], str(location[-1])
    field_names = sorted(field.alias or name for name, field in _model_at(owner, model).model_fields.items())
    near = difflib.get_close_matches(written, field_names, n=1)
    return "unknown field; " + (f"did you mean {near[0]}?" if near else f"{path(owner)} has {', '.join(field_names)}")


def _model_at(location: Location, model: type[BaseModel]) -> type[BaseModel]:
    """Returns the model of the object at `location`, found through the types of the fields on the way."""
    for part in location:
        if isinstance(part, str):
            field = next(each for name, each in model.model_fields.items() if part in (each.alias, name))
            model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner_model for part in get_args(annotation) if (inner_model := _model_in(part))), None)
