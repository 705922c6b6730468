"""The CRD says what the models say, in the dialect that API servers accept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from ftm_operator.api import crd
from ftm_operator.api.custom_resources import CUSTOM_RESOURCES, FINE_TUNED_MODEL, CustomResource
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


KINDS = pytest.mark.parametrize("kind", CUSTOM_RESOURCES, ids=lambda each: each.kind)


@KINDS
def test_every_field_has_a_description(kind: CustomResource) -> None:
    missing = [path for path, field in fields(crd.schema(kind)) if path != "metadata" and not field.get("description")]
    assert missing == []


def test_every_field_of_the_models_is_in_the_schema() -> None:
    found = dict(fields(crd.schema(FINE_TUNED_MODEL)))
    for name in ("base", "adapters", "artifacts", "serving", "jobs", "suspend"):
        assert f"spec.{name}" in found
    assert "spec.serving.env[].valueFrom.secretKeyRef.key" in found
    assert "status.facts.base.weightBytes" in found
    assert "status.artifacts.merged.digest" in found


def test_defaults_are_in_the_schema_and_only_where_there_is_one() -> None:
    defaults = {path: field["default"] for path, field in fields(crd.schema(FINE_TUNED_MODEL)) if "default" in field}
    assert defaults == {
        "spec.adapters[].scale": 1,
        "spec.mode": "Auto",
        "spec.preview": "None",
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
        "spec.verification.served": "Unchecked",
        "spec.serving": {},
        "spec.serving.engine": "Auto",
        "spec.serving.device": "Auto",
        "spec.serving.replicas": 1,
        "spec.serving.autoscaling.minReplicas": 1,
        "spec.serving.autoscaling.metric": "Auto",
        "spec.serving.autoscaling.cooldownSeconds": 300,
        "spec.serving.autoscaling.triggers[].authenticationRef.kind": "TriggerAuthentication",
        "spec.serving.gateway.inferencePool.endpointPickerRef.port": 9002,
        "spec.serving.gateway.inferencePool.endpointPickerRef.failureMode": "FailClose",
        "spec.serving.strategy": "Auto",
        "spec.serving.keptVersions": 3,
        "spec.serving.loading": "Auto",
        "spec.serving.canary.replicas": 1,
        "spec.serving.canary.steps": [
            {"weight": 10, "pauseSeconds": 300},
            {"weight": 50, "pauseSeconds": 300},
        ],
        "spec.serving.canary.analysis.intervalSeconds": 30,
        "spec.serving.canary.analysis.maxErrorPercent": 1,
        "spec.serving.canary.analysis.maxSlowdownPercent": 50,
        "spec.serving.canary.analysis.minRequests": 20,
        "spec.serving.dtype": "auto",
        "spec.serving.dynamic": {},
        "spec.serving.servedNames[].targets[].weight": 1,
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
    keys = {path: field.get("x-kubernetes-list-map-keys") for path, field in fields(crd.schema(FINE_TUNED_MODEL))}
    assert keys["spec.adapters"] == ["name"]
    assert keys["spec.serving.env"] == ["name"]
    assert keys["status.conditions"] == ["type"]


@KINDS
def test_a_stored_status_stays_valid_when_a_field_is_added(kind: CustomResource) -> None:
    found = dict(fields(crd.schema(kind)))
    assert found["status.conditions"]["items"]["required"] == ["type"]
    assert [path for path, field in found.items() if path.startswith("status") and "required" in field] == []


@KINDS
def test_every_rule_says_what_to_do(kind: CustomResource) -> None:
    rules = [rule for _, field in fields(crd.schema(kind)) for rule in field.get("x-kubernetes-validations", ())]
    assert len(rules) > (20 if kind is FINE_TUNED_MODEL else 3)
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


def test_the_printed_definitions_are_the_definitions() -> None:
    assert list(yaml.safe_load_all(crd.crds_yaml())) == [crd.crd(kind) for kind in CUSTOM_RESOURCES]
    assert [crd.crd(kind)["metadata"]["name"] for kind in CUSTOM_RESOURCES] == [
        "finetunedmodels.ftm.dev",
        "finetunedadapters.ftm.dev",
    ]
