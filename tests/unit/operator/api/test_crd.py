"""The CRD says what the models say, in the dialect that API servers accept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from ftm_operator.api import crd, v1alpha1
from ftm_operator.command.generated_files import MADE_FROM, files

ROOT = Path(__file__).parents[4]
Schema = dict[str, Any]


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        yield from fields(field, f"{path}{name}.")
        yield from fields(field.get("items", {}), f"{path}{name}[].")


@pytest.mark.parametrize("name", files())
def test_generated_files_are_what_the_models_make(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == files()[name], f"{name} has drifted: {MADE_FROM}"


def test_every_field_has_a_description() -> None:
    missing = [path for path, field in fields(crd.schema()) if path != "metadata" and not field.get("description")]
    assert missing == []


def test_every_field_of_the_models_is_in_the_schema() -> None:
    found = dict(fields(crd.schema()))
    for name in ("base", "adapters", "artifacts", "serving", "jobs", "suspend"):
        assert f"spec.{name}" in found
    assert "spec.serving.env[].valueFrom.secretKeyRef.key" in found
    assert "status.facts.base.weightBytes" in found
    assert "status.artifacts.merged.digest" in found


def test_defaults_are_in_the_schema_and_only_where_there_is_one() -> None:
    defaults = {path: field["default"] for path, field in fields(crd.schema()) if "default" in field}
    assert defaults == {
        "spec.adapters[].scale": 1,
        "spec.quantizedBase": "FullPrecision",
        "spec.objective": "Quality",
        "spec.quantization": {},
        "spec.quantization.method": "Auto",
        "spec.quantization.awq": {},
        "spec.quantization.awq.engine": "Auto",
        "spec.quantization.gguf": {},
        "spec.quantization.gguf.type": "Q4_K_M",
        "spec.quantization.gguf.strict": False,
        "spec.quantization.gguf.importanceMatrix": False,
        "spec.verification": {},
        "spec.verification.policy": "Block",
        "spec.serving": {},
        "spec.serving.engine": "Auto",
        "spec.serving.device": "Auto",
        "spec.serving.replicas": 1,
        "spec.serving.strategy": "Auto",
        "spec.serving.dtype": "auto",
        "spec.serving.accelerator": {},
        "spec.serving.accelerator.resource": "nvidia.com/gpu",
        "spec.serving.accelerator.allocation": "DevicePlugin",
        "spec.serving.probes.startupSeconds": 1800,
        "spec.serving.probes.readiness": {},
        "spec.serving.probes.liveness": {},
        "spec.serving.service.type": "ClusterIP",
        "spec.serving.service.port": 80,
        "spec.jobs": {},
        "spec.suspend": False,
        "status": {"observedGeneration": -1},
        "status.observedGeneration": -1,
        "status.conditions[].observedGeneration": 0,
    }


def test_lists_of_named_things_are_merged_by_name() -> None:
    keys = {path: field.get("x-kubernetes-list-map-keys") for path, field in fields(crd.schema())}
    assert keys["spec.adapters"] == ["name"]
    assert keys["spec.serving.env"] == ["name"]
    assert keys["status.conditions"] == ["type"]


def test_a_stored_status_stays_valid_when_a_field_is_added() -> None:
    found = dict(fields(crd.schema()))
    assert found["status.conditions"]["items"]["required"] == ["type"]
    assert [path for path, field in found.items() if path.startswith("status") and "required" in field] == []


def test_every_rule_says_what_to_do() -> None:
    rules = [rule for _, field in fields(crd.schema()) for rule in field.get("x-kubernetes-validations", ())]
    assert len(rules) > 20
    assert [rule["message"] for rule in rules if not {";", ":"} & set(rule["message"])] == []


class Tree(BaseModel):
    children: "list[Tree]" = Field(description="More of the same.")


class Either(BaseModel):
    either: int | str = Field(description="A field of two types.")


class Undocumented(BaseModel):
    field: int


@pytest.mark.parametrize(
    ("model", "complaint"),
    [(Tree, "refers to itself"), (Either, "spec.either: a CRD cannot say anyOf"), (Undocumented, "spec.field: has no")],
)
def test_what_a_crd_cannot_say_is_an_error(model: type[BaseModel], complaint: str) -> None:
    source = model.model_json_schema()
    with pytest.raises(crd.NotStructural, match=complaint):
        crd.structural({**source, "description": "x"}, source.get("$defs", {}), ("spec",))


def test_the_printed_definition_is_the_definition() -> None:
    assert yaml.safe_load(crd.crd_yaml()) == crd.crd()
    assert crd.crd()["metadata"]["name"] == f"{v1alpha1.PLURAL}.{v1alpha1.GROUP}"
