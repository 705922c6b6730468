"""Makes the reference page of a kind of resource, from the same schema as its CRD. Pure.

A page says of every field its type, its default and what is refused; a section per object, in the manifest's order.
"""

from typing import Any

from ftm_operator.api import v1alpha1
from ftm_operator.api.crd import Schema, schema
from ftm_operator.api.custom_resources import FINE_TUNED_ADAPTER, FINE_TUNED_MODEL, CustomResource
from ftm_operator.api.schema import VALIDATIONS

HEAD = f"""\
<!-- made from operator/ftm_operator/api by `python -m ftm_operator.command.generated_files` -->
# {{kind}}

`{v1alpha1.API_VERSION}`, kind `{{kind}}`, short name `{{short_name}}`. {{description}}

`kubectl explain {{short_name}}.spec --recursive` prints the same from a cluster, and `ftm crd` the definition itself.

The smallest manifest:
"""
MODEL_EXAMPLE = f"""\
```yaml
apiVersion: {v1alpha1.API_VERSION}
kind: {v1alpha1.KIND}
metadata:
  name: support-bot
spec:
  base:
    uri: hf://mistralai/Mistral-7B-v0.1
  adapters:
    - name: support
      uri: s3://models/adapters/support-v2
```
In the above example the base is what the repository's main branch points to when the resource is first seen, the
adapter is merged into it at its own strength, the artifact goes to the store that the operator was installed with, and
one replica answers requests for the model `support-bot`.
"""
ADAPTER_EXAMPLE = f"""\
```yaml
apiVersion: {v1alpha1.API_VERSION}
kind: {FINE_TUNED_ADAPTER.kind}
metadata:
  name: billing
spec:
  model: shared-base
  uri: s3://models/adapters/billing-v1
```
In the above example `shared-base` is a FineTunedModel in the same namespace whose `spec.mode` is `Dynamic`. A Job
checks that the adapter was trained on its base and keeps a copy in its artifact store; then every Pod that serves it
loads the adapter, asks it and answers requests for the model `billing`. [Many adapters on one base](adapters.md) tells
of tenants, roles and quotas.
"""
RULES = """
A field that is not listed here is refused by `kubectl apply`, and so is a value that breaks a rule. A field marked
*required* has no default. `null` means the same as leaving a field out.
"""
MODEL_METADATA = f"""\
## metadata

`name` also names the Service and the Jobs: at most 40 lower-case letters, digits and '-', starting with a letter.

The annotation `{v1alpha1.REFRESH_ANNOTATION}` may have any value; when the value changes, the sources are resolved
again, and what has changed in them is built and rolled out.
"""
ADAPTER_METADATA = f"""\
## metadata

`name` also names the Jobs: at most 40 lower-case letters, digits and '-', starting with a letter.

The annotation `{v1alpha1.REFRESH_ANNOTATION}` may have any value; when the value changes, the source is resolved again.
If it has changed, the new version is loaded and proven beside the former one, which answers until then.
"""
WRITE = "; write "


def reference(resource: CustomResource) -> str:
    """Returns the page as Markdown."""
    root = schema(resource)
    example, metadata = (
        (MODEL_EXAMPLE, MODEL_METADATA) if resource is FINE_TUNED_MODEL else (ADAPTER_EXAMPLE, ADAPTER_METADATA)
    )
    head = HEAD.format(kind=resource.kind, short_name=resource.short_names[0], description=root["description"])
    sections = [section for field in ("spec", "status") for section in _sections(field, root["properties"][field])]
    scale = [_scale(resource.scale)] if resource.scale else []
    return "\n".join([head + example + RULES, metadata, *sections, _columns(resource), *scale])


def _sections(path: str, holder_schema: Schema) -> list[str]:
    """Returns a section for this object, and one for each object in it."""
    fields = holder_schema["properties"].items()
    table = ["| field | type | default | |", "| --- | --- | --- | --- |"]
    table += [_row(name, field, name in holder_schema.get("required", ())) for name, field in fields]
    refused = [f"- {message}" for message in _other_refusals(holder_schema)]
    for name, field in fields:
        if not _object_in(field):
            refused += [f"- `{name}`: {message}" for message in _other_refusals(field)]
    section = [f"## {path}", "", holder_schema["description"], "", *table, ""]
    section += ["Refused:", "", *refused, ""] if refused else []
    inner = [
        part
        for name, field in fields
        if (holder := _object_in(field))
        for part in _sections(f"{path}.{name}{'[]' if field['type'] == 'array' else ''}", holder)
    ]
    return ["\n".join(section), *inner]


def _object_in(field: Schema) -> Schema | None:
    holder = field.get("items", field)
    return holder if "properties" in holder else None


def _row(name: str, field: Schema, required: bool) -> str:
    default = "*required*" if required else _default(field)
    instructions = [] if _object_in(field) else _instructions(field)
    notes = [field["description"], *_bounds(field), *instructions]
    return f"| `{name}` | {_type(field)} | {default} | {_cell(' '.join(notes))} |"


def _default(field: Schema) -> str:
    if "default" not in field or field["default"] == {}:
        return ""
    return f"`{_yaml(field['default'])}`"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "number or percentage" if "%" in str(field[VALIDATIONS]) else "quantity"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if "additionalProperties" in field:
        return f"map of string to {_type(field['additionalProperties'])}"
    return "date and time" if field.get("format") == "date-time" else str(field["type"])


def _bounds(field: Schema) -> list[str]:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return [f"{'More than ' if field.get('exclusiveMinimum') else 'From '}{low} to {high}."]
    if low is not None:
        return [f"At least {low}."]
    if field.get("minItems"):
        return [f"{field['minItems']} to {field['maxItems']} items."]
    return []


def _instructions(field: Schema) -> list[str]:
    """Returns the remedies of the rules: `… is not a source; write hf://org/name` is told as `Write hf://org/name`."""
    told = [rule["message"].rpartition(WRITE)[2] for rule in field.get(VALIDATIONS, ()) if WRITE in rule["message"]]
    return [f"Write {how}." for how in dict.fromkeys(told) if how not in field["description"]]


def _other_refusals(field_or_object: Schema) -> list[str]:
    return [rule["message"] for rule in field_or_object.get(VALIDATIONS, ()) if WRITE not in rule["message"]]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _columns(resource: CustomResource) -> str:
    rows = [
        f"| {column.name}{' (`-o wide`)' if column.wide else ''} | `{_cell(column.json_path)}` | {column.description} |"
        for column in resource.columns
    ]
    title = f"## What `kubectl get {resource.short_names[0]}` shows"
    return "\n".join([title, "", "| column | field | |", "| --- | --- | --- |", *rows, ""])


def _scale(scale: dict[str, str]) -> str:
    return (
        "## Scaling\n\nReplicas follow the load with `spec.serving.autoscaling`: [Autoscaling](autoscaling.md). "
        "Without it, `kubectl scale ftm NAME --replicas=N` and a HorizontalPodAutoscaler set "
        f"`{scale['specReplicasPath'].lstrip('.')}` through the scale subresource.\n"
    )
