"""Lets the API's models say once a promise that both Python and an API server check.

A `Rule` holds one promise about a value: the CEL expression that goes into the CRD, the same predicate in Python, and
the sentence that a user reads when it is broken. `Resource` models carry rules over several fields in `rules`.
Nothing here knows a FineTunedModel.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from ftm_operator.api.quantities import PATTERN, is_quantity

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A promise about one value. `{value}` in the message stands for the value, as it was written."""

    message: str
    cel: str | None
    """The check of an API server; None if only `ftm run` checks."""
    holds: Callable[[Any], bool] | None
    """The check in Python; None where `ftm run` accepts more than a cluster does."""

    def check(self, value: Any) -> Any:
        if self.holds and not self.holds(value):
            shown = f'"{value}"' if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            sentence = self.message.replace("{value}", shown)
            raise PydanticCustomError("rule", "{sentence}", {"sentence": sentence})
        return value

    def validations(self) -> list[dict[str, str]]:
        """Returns the rule as entries of x-kubernetes-validations."""
        if self.cel is None:
            return []
        entry = {"rule": self.cel, "message": self.message.replace("{value}", "this")}
        if "{value}" in self.message:
            quoted = self.message.replace("{value}", '"{value}"').split("{value}")
            entry["messageExpression"] = " + self + ".join(json.dumps(part, ensure_ascii=False) for part in quoted)
        return [entry]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, ()), *self.validations()]}


@dataclass(frozen=True)
class NamingRule(Rule):
    """A promise about a map or an object, whose sentence names the part that breaks it."""

    sentence_cel: str = ""
    """The sentence as an API server makes it."""
    broken: Callable[[Any], str | None] = lambda _: None
    """Returns the sentence in Python; None where the promise is kept."""

    def check(self, value: Any) -> Any:
        if sentence := self.broken(value):
            raise PydanticCustomError("rule", "{sentence}", {"sentence": sentence})
        return value

    def validations(self) -> list[dict[str, str]]:
        return [{"rule": str(self.cel), "message": self.message, "messageExpression": self.sentence_cel}]


def keys_match(pattern: str, message: str) -> NamingRule:
    """Returns the rule that every key of a map matches; `{value}` in the message is the first that does not."""
    holds = full_match(pattern)
    before, after = message.split("{value}")
    wrong = f"self.filter(key, !{full_match_cel(pattern, 'key')})[0]"
    return NamingRule(
        message.replace("{value}", "a key"),
        f"self.all(key, {full_match_cel(pattern, 'key')})",
        None,
        " + ".join((json.dumps(f'{before}"'), wrong, json.dumps(f'"{after}', ensure_ascii=False))),
        lambda items: next((message.replace("{value}", f'"{key}"') for key in items if not holds(key)), None),
    )


def full_match(pattern: str) -> Callable[[str], bool]:
    """Returns a test in Python whether a whole string matches `pattern`."""
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def full_match_cel(pattern: str, variable: str = "self") -> str:
    """Returns the same test in CEL. A pattern must mean the same to RE2, without look-around."""
    return f"{variable}.matches({json.dumps(f'^({pattern})$')})"


def matches(pattern: str, message: str) -> Rule:
    return Rule(message, full_match_cel(pattern), full_match(pattern))


@dataclass(frozen=True, eq=False)
class Extension:
    """Adds keywords to a field's schema and checks nothing."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), **self.keywords}


@dataclass(frozen=True)
class MapList:
    """A list whose items are told apart by `key`: no two share it, and server-side apply merges item by item."""

    key: str

    def _check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[str] = set()
        for position, item in enumerate(items):
            value = getattr(item, self.key)
            if value in seen:
                raise PydanticCustomError(
                    "rule",
                    "item {position} has the {key} of an item before it, {value}; give it its own",
                    {"position": position, "key": to_camel(self.key), "value": f'"{value}"'},
                )
            seen.add(value)
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [to_camel(self.key)]}


ATOMIC_LIST = Extension({"x-kubernetes-list-type": "atomic"})
ATOMIC_MAP = Extension({"x-kubernetes-map-type": "atomic"})


class Resource(BaseModel):
    """Frozen, camelCase, typed as strictly as an API server; attribute docstrings are the descriptions."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True, extra="forbid"
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    """Promises over several fields, in the order they are reported."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        """An API server drops nulls of fields that are not nullable, before it fills defaults."""
        return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        if validations := [entry for rule in cls.rules for entry in rule.validations()]:
            schema[VALIDATIONS] = validations
        return reference

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OpenResource(Resource):
    """Has fields that are Kubernetes' own, which are taken as they are written."""

    model_config = ConfigDict(extra="allow")


class Tolerant(Resource):
    """Written by an API server or by the operator itself: fields that a newer version added are ignored."""

    model_config = ConfigDict(extra="ignore")


Quantity = Annotated[
    int | str,
    PlainValidator(lambda value: value),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 64}),
    Rule(
        "{value} is not a quantity; write a whole number or a string, as in 4, '500m' or '30Gi'",
        f"type(self) == int ? self >= 0 : {full_match_cel(PATTERN, 'string(self)')}",
        is_quantity,
    ),
]
"""Kubernetes' resource.Quantity, without negative ones."""
