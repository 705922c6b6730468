"""A FineTunedModel accepts what is right, fills in the rest, and has a sentence for everything else."""

from typing import Any

import pytest

from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from tests.unit.operator.api.manifests import manifest_with, minimal
from tests.unit.operator.api.refusals import RULES, SHAPES, Refusal


def test_the_smallest_manifest_is_filled_with_the_defaults() -> None:
    model = FineTunedModel.model_validate(minimal())
    assert model.spec.adapters[0].scale == 1
    assert model.spec.serving.replicas == 1
    assert model.spec.serving.dtype == "auto"
    assert model.spec.serving.accelerator.resource == "nvidia.com/gpu"
    assert model.spec.artifacts is None
    assert model.spec.suspend is False
    assert model.served_model_name == "support-bot"


@pytest.mark.parametrize("refusal", [*RULES, *SHAPES], ids=str)
def test_every_refusal_names_the_field_the_value_and_what_to_write(refusal: Refusal) -> None:
    with pytest.raises(InvalidManifest) as refused:
        parse(FineTunedModel, manifest_with(refusal.field, refusal.value))
    assert refused.value.problems == [f"{refusal.path}: {refusal.sentence}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.base.uri", "hf://org/name@refs/pr/1"),
        ("spec.base.uri", "hf://org/name@v1.0"),
        ("spec.base.uri", "s3://models"),
        ("spec.base.uri", "s3://models/base/"),
        ("spec.base.uri", "s3://models/..base/v1...final"),
        ("spec.adapters[0].scale", -0.5),
        ("spec.serving.replicas", 0),
        ("spec.serving.extraArgs", ["--model-loader-extra-config={}", "--portal", "--max-num-seqs=64"]),
        ("spec.serving.env", [{"name": "EMPTY", "value": ""}]),
        ("spec.serving.resources.limits", {"cpu": 4, "memory": "1.5Gi", "nvidia.com/gpu": "1", "hugepages-2Mi": "1e3"}),
        ("spec.serving.tolerations", [{"operator": "Exists"}]),
        ("metadata.name", "a" * 40),
    ],
)
def test_what_looks_odd_but_is_right_is_not_refused(field: str, value: Any) -> None:
    parse(FineTunedModel, manifest_with(field, value))


def test_local_files_are_accepted_here_since_ftm_run_can_read_them() -> None:
    model = parse(FineTunedModel, manifest_with("spec.base.uri", "file:///models/base"))
    assert model.spec.base.uri == "file:///models/base"


@pytest.mark.parametrize("uri", ["file://models/base", "file:///my models/base", "file:///models,base"])
def test_a_local_path_that_a_job_could_not_be_given_is_refused(uri: str) -> None:
    with pytest.raises(InvalidManifest) as refused:
        parse(FineTunedModel, manifest_with("spec.base.uri", uri))
    assert refused.value.problems == [
        f'spec.base.uri: "{uri}" is not an absolute path; write file:///path, with %20 for a space and %2C for a comma'
    ]


def test_two_adapters_do_not_share_a_name() -> None:
    adapter = minimal()["spec"]["adapters"][0]
    with pytest.raises(InvalidManifest) as refused:
        parse(FineTunedModel, manifest_with("spec.adapters", [adapter, adapter]))
    assert refused.value.problems == [
        'spec.adapters: item 1 has the name of an item before it, "support"; give it its own'
    ]


def test_all_problems_of_a_manifest_are_told_at_once() -> None:
    manifest = manifest_with("spec.serving", {"replicas": -1, "dtype": "fp8"})
    del manifest["spec"]["base"]
    with pytest.raises(InvalidManifest) as refused:
        parse(FineTunedModel, manifest)
    assert str(refused.value) == (
        "spec.base: is required\n"
        "spec.serving.replicas: -1 is too small; write at least 0\n"
        'spec.serving.dtype: "fp8" is not a choice; write auto, bfloat16, float16 or float32'
    )


@pytest.mark.parametrize("document", ["text", None, [minimal()]])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(InvalidManifest, match=r"manifest: .* is not an object"):
        parse(FineTunedModel, document)


def test_another_kind_is_refused() -> None:
    with pytest.raises(InvalidManifest) as refused:
        parse(FineTunedModel, {**minimal(), "kind": "Deployment"})
    assert refused.value.problems == ['kind: "Deployment" is not a choice; write FineTunedModel']


def test_null_means_absent_as_for_an_api_server() -> None:
    manifest = manifest_with("spec.serving", {"replicas": None, "maxModelLen": None, "env": None})
    assert parse(FineTunedModel, manifest) == parse(FineTunedModel, minimal())


def test_metadata_that_is_not_used_is_ignored() -> None:
    manifest = manifest_with("metadata.managedFields", [{"manager": "kubectl"}])
    assert parse(FineTunedModel, manifest) == parse(FineTunedModel, minimal())


def test_a_status_of_another_version_is_read_as_far_as_it_is_understood() -> None:
    status = {
        "observedGeneration": 3,
        "phase": "Pruning",
        "endpoint": "http://support-bot",
        "verification": {"passed": True},
        "facts": {"base": {"uri": "hf://org/name"}, "adapters": []},
    }
    read = parse(FineTunedModel, {**minimal(), "status": status}).status
    assert read is not None
    assert read.to_json() == {"observedGeneration": 3, "endpoint": "http://support-bot", "conditions": []}


def test_what_was_read_is_written_back_the_same() -> None:
    manifest = manifest_with(
        "spec.serving.env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    )
    model = parse(FineTunedModel, manifest)
    assert parse(FineTunedModel, model.to_json()) == model
