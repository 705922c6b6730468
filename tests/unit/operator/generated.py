"""Draws manifests from the CRD's own schema: every field, every choice, any Unicode that a rule lets through."""

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from ftm_operator.api.crd import crd
from ftm_operator.api.custom_resources import FINE_TUNED_MODEL
from ftm_operator.api.schema import VALIDATIONS
from tests.unit.operator.objects import NAME, Manifest, resource

Schema = dict[str, Any]
Drawn = st.SearchStrategy[Any]

MATCHES = re.compile(r'(?<!!)(?:self|string\(self\)|key)\.matches\(("(?:[^"\\]|\\.)*")\)')
ONE_OF_TWO = re.compile(r"has\(self\.(\w+)\) != has\(self\.(\w+)\)")
MOST_FIELDS = 3
"""The optional fields that one object gets: manifests stay small, and every pair of fields is drawn."""
LONG = ("prompt", "content")
"""The fields whose longest values are drawn; of others, an API server refuses what is too large for its kind."""
KEYS = st.text(max_size=4) | st.sampled_from(["$patch", "name", "key", "topologyKey", "mountPath", "type"])
ANYTHING = st.recursive(
    st.booleans() | st.integers(-1, 9) | st.text(max_size=4) | st.sampled_from(["replace", "delete", "vllm"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
OF_KUBERNETES = (
    "securityContext",
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "imagePullSecrets",
    "hostAliases",
    "envFrom",
    "resources",
    "readinessProbe",
    "lifecycle",
    "volumeDevices",
    "emptyDir",
    "hostNetwork",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "valueFrom",
    "$patch",
    "🚀",
)
"""Fields that the schema leaves to Kubernetes, for objects that keep what they do not declare."""
WRONG: tuple[Any, ...] = ("", "x" * 300, "²", "🚀", -1, 2**62, 1e308, True, [], [{}], {}, {"a": "b"}, "1e400")
QUANTITIES = st.sampled_from([0, 1, 4, 10**18, "0", "1m", "500m", "3.", ".5", "+1Gi", "30Gi", "1e9", "9E", "1n", "2Ti"])
RESOURCES = st.sampled_from(["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu", "amd.com/gpu"])
CONTAINERS = st.sampled_from(["fetch", "vllm", "llama-server", "inspect", "merge", "quantize", "verify", "proxy"])


@cache
def spec_schema() -> Schema:
    found: Schema = crd(FINE_TUNED_MODEL)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def manifests() -> st.SearchStrategy[Manifest]:
    """Draws manifests whose every field is of its type; most of them keep the rules over several fields as well."""
    return st.builds(lambda spec: resource() | {"spec": spec}, specs())


@cache
def specs() -> st.SearchStrategy[Manifest]:
    """Draws specs that name an artifact store."""
    drawn: st.SearchStrategy[Manifest] = drawn_from(spec_schema(), NAME)
    return drawn.map(lambda spec: {"artifacts": {"uri": "s3://artifacts/built"}, **spec})


def spoiled(spec: Manifest, number: int) -> Manifest:
    """Returns the spec with one value in the wrong place."""
    changed = copy.deepcopy(spec)
    found = list(_holders(changed))
    holder, key = found[number % len(found)]
    holder[key] = WRONG[number % len(WRONG)]
    return changed


def _holders(value: Any) -> Any:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(inside):
        yield value, key
        yield from _holders(item)


def drawn_from(schema: Schema, name: str) -> Drawn:
    """Draws values of a part of the schema; `name` is its field's."""
    rules = [rule["rule"] for rule in schema.get(VALIDATIONS, ())]
    patterns = [json.loads(found) for rule in rules for found in MATCHES.findall(rule)]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return QUANTITIES if schema["maxLength"] > 16 else st.integers(0, 5) | st.sampled_from(["0%", "50%", "100%"])
    kind = schema.get("type")
    if kind == "string":
        if any("endsWith" in rule for rule in rules):
            return st.just("pvc://texts/✓/calibration.jsonl")
        return _strings(schema, patterns, name)
    if kind in ("integer", "number"):
        return _numbers(schema, whole=kind == "integer")
    if kind == "array":
        return _arrays(schema, name)
    if kind == "object":
        return _objects(schema, rules, patterns)
    return st.booleans() if kind == "boolean" else ANYTHING


def _strings(schema: Schema, patterns: list[str], name: str) -> Drawn:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    if not patterns:
        longest = "🚀" * (most if name in LONG else min(most, 1024))
        return st.text(min_size=least, max_size=min(most, least + 20)) | st.just(longest)
    drawn = st.from_regex(re.compile(max(patterns, key=len)), fullmatch=True)
    fitting = drawn.filter(lambda text: least <= len(text) <= most)
    return fitting | CONTAINERS if name == "name" else fitting


def _numbers(schema: Schema, *, whole: bool) -> Drawn:
    least, most = schema.get("minimum", schema.get("exclusiveMinimum", 0)), schema.get("maximum", 10**9)
    if whole:
        return st.integers(least, most) | st.sampled_from([least, most])
    return st.floats(least, most, allow_nan=False, exclude_min="exclusiveMinimum" in schema)


def _arrays(schema: Schema, name: str) -> Drawn:
    items, least = drawn_from(schema["items"], name), schema.get("minItems", 0)
    keys = schema.get("x-kubernetes-list-map-keys", ())
    return st.lists(
        items, min_size=least, max_size=min(schema.get("maxItems", 3), least + 2), unique_by=_by(keys) if keys else None
    )


def _later(part: Schema, field: str) -> Drawn:
    return st.deferred(lambda: drawn_from(part, field))


def _by(keys: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda item: tuple(item[key] for key in keys)


def _objects(schema: Schema, rules: list[str], patterns: list[str]) -> Drawn:
    fields = schema.get("properties")
    if fields is None:
        if "additionalProperties" not in schema:
            return st.dictionaries(KEYS, ANYTHING, max_size=2)
        values = drawn_from(schema["additionalProperties"], "")
        is_amounts = schema["additionalProperties"].get("x-kubernetes-int-or-string")
        keys = RESOURCES if is_amounts else st.from_regex(re.compile(patterns[0]), fullmatch=True)
        return st.dictionaries(keys.filter(lambda key: len(key) <= 300), values, max_size=3)
    drawn = {field: _later(part, field) for field, part in fields.items()}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        drawn = dict.fromkeys(OF_KUBERNETES, ANYTHING) | drawn
    twos = [found.groups() for rule in rules if (found := ONE_OF_TWO.fullmatch(rule))]
    return _chosen(drawn, tuple(schema.get("required", ())), twos)


@st.composite
def _chosen(
    draw: st.DrawFn, drawn: dict[str, Drawn], required: tuple[str, ...], twos: list[tuple[str, ...]]
) -> Manifest:
    either = {name for two in twos for name in two}
    optional = sorted(drawn.keys() - set(required) - either)
    names = {*required, *(draw(st.sampled_from(two)) for two in twos)}
    if optional:
        names |= draw(st.sets(st.sampled_from(optional), max_size=MOST_FIELDS))
    made = {name: draw(drawn[name]) for name in sorted(names)}
    if str(made.get("uri")).startswith("pvc://"):
        made.pop("secretName", None)
    return made
