"""Makes the CustomResourceDefinitions from the models. Pure; `ftm crd` prints them.

pydantic writes JSON Schema and Kubernetes reads a stricter dialect of it, a structural schema: definitions are written
where they are used, an optional field is one that may be absent, and unknown fields are dropped (or refused, by
`kubectl apply`) without being forbidden. A keyword that is not understood here is an error rather than left out.
"""

import copy
from collections.abc import Iterable
from typing import Any

import yaml

from ftm_operator.api.custom_resources import CUSTOM_RESOURCES, CustomResource
from ftm_operator.api.schema import VALIDATIONS
from ftm_operator.api.v1alpha1 import GROUP, VERSION, Column

Schema = dict[str, Any]

DROPPED = {"title", "$defs"}
KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    VALIDATIONS,
)
"""Keywords a structural schema may have, in the order they are written."""


class NotStructural(Exception):
    """A model uses something that a CRD cannot say."""


def crd(resource: CustomResource) -> Schema:
    """Returns the CustomResourceDefinition as `kubectl apply` takes it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": list(resource.short_names),
                "categories": list(resource.categories),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "subresources": {"status": {}, **({"scale": resource.scale} if resource.scale else {})},
                    "schema": {"openAPIV3Schema": _with_former_names(schema(resource), resource)},
                }
            ],
        },
    }


def crds_yaml() -> str:
    """Returns all definitions, a document each."""
    return "---\n".join(to_yaml(crd(resource)) for resource in CUSTOM_RESOURCES)


def to_yaml(document: Schema) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def _column(column: Column) -> Schema:
    written = {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.json_path,
    }
    return {**written, "priority": 1} if column.wide else written


def schema(resource: CustomResource) -> Schema:
    """Returns the structural schema of a kind of resource."""
    source = resource.model.model_json_schema(by_alias=True, mode="validation")
    definitions = source.get("$defs", {})
    root = structural(source, definitions, ())
    # An API server has its own schema of these, and lets a CRD say nothing of it but the name.
    for field in ("apiVersion", "kind"):
        root["properties"][field] = {"type": "string", "description": root["properties"][field]["description"]}
    metadata = root["properties"]["metadata"]
    root["properties"]["metadata"] = {"type": "object"}
    root[VALIDATIONS] = [_of_name(rule) for rule in metadata["properties"]["name"][VALIDATIONS]]
    root["required"] = ["spec"]
    # Without a status a resource would read as reconciled to kstatus before the operator has seen it.
    root["properties"]["status"]["default"] = {"observedGeneration": -1}
    _let_status_grow(root["properties"]["status"])
    return root


def _with_former_names(root: Schema, resource: CustomResource) -> Schema:
    """Returns the schema with the names that fields of the status had before, so that a stored one can be read."""
    extended_root = copy.deepcopy(root)
    for place, former, name in resource.former_names:
        owner = extended_root["properties"]["status"]
        for step in place:
            owner = owner["properties"][step]
        owner["properties"][former] = {
            "type": "string",
            "description": f"Deprecated: the name of {name} in a status of an earlier version, which is read once.",
        }
    return extended_root


def _let_status_grow(status_part: Schema, keys: Iterable[str] = ()) -> None:
    """Requires nothing in a status but the keys of lists: a stored one stays valid when a field is added."""
    status_part.pop("required", None)
    if keys:
        status_part["required"] = list(keys)
    for field in status_part.get("properties", {}).values():
        _let_status_grow(field)
    if "items" in status_part:
        _let_status_grow(status_part["items"], status_part.get("x-kubernetes-list-map-keys", ()))


def _of_name(rule: Schema) -> Schema:
    """Returns a rule about metadata.name as a rule of the root, which alone may look at it."""
    return {
        "rule": rule["rule"].replace("self", "self.metadata.name"),
        "message": f"metadata.name: {rule['message']}",
        "messageExpression": f'"metadata.name: " + {rule["messageExpression"].replace("self", "self.metadata.name")}',
    }


def structural(source: Schema, definitions: dict[str, Schema], path: tuple[str, ...]) -> Schema:
    flat = _flatten(source, definitions, path)
    where = ".".join(path) or "the root"
    if unknown := flat.keys() - set(KEPT) - DROPPED:
        raise NotStructural(f"{where}: a CRD cannot say {', '.join(sorted(unknown))}")
    if not flat.get("description") and path and path[-1] != "[]" and path[0] != "metadata":
        raise NotStructural(f"{where}: has no description; write a docstring under the field")
    if "properties" in flat:
        flat["properties"] = {
            name: structural(field, definitions, (*path, name)) for name, field in flat["properties"].items()
        }
    for inner in ("items", "additionalProperties"):
        if inner in flat:
            flat[inner] = structural(flat[inner], definitions, (*path, "[]"))
    return {keyword: flat[keyword] for keyword in KEPT if keyword in flat}


def _flatten(source: Schema, definitions: dict[str, Schema], path: tuple[str, ...]) -> Schema:
    """Returns one level of the schema, without references, unions with null, and keywords unknown to Kubernetes."""
    if len(path) > 32:
        raise NotStructural(f"{'.'.join(path[:4])}…: refers to itself")
    flat = dict(source)
    while "$ref" in flat or _is_optional(flat):
        if "$ref" in flat:
            inner = definitions[flat.pop("$ref").rsplit("/", 1)[1]]
        else:
            inner = next(option for option in flat.pop("anyOf") if option != {"type": "null"})
        flat = {**inner, **flat}
    if "description" in flat:
        flat["description"] = " ".join(flat["description"].split())
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    if "exclusiveMinimum" in flat:
        flat["minimum"], flat["exclusiveMinimum"] = flat["exclusiveMinimum"], True
    if isinstance(flat.get("additionalProperties"), bool) and flat.pop("additionalProperties"):
        flat["x-kubernetes-preserve-unknown-fields"] = True
    if isinstance(flat.get("default"), dict):
        flat["default"] = {}  # what is in it has its own defaults
    if flat.get("default", ...) in (None, [], "") or (flat.get("default") == {} and "properties" not in flat):
        del flat["default"]
    return flat


def _is_optional(schema: Schema) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())
