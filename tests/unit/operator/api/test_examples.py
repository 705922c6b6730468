"""Every example can be read as it is."""

from pathlib import Path

import pytest
import yaml

from ftm_operator.api.custom_resources import FINE_TUNED_ADAPTER, FINE_TUNED_MODEL
from ftm_operator.api.errors import parse
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.reference import reference
from ftm_operator.local.manifest_file import read_manifest

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_good_manifest(path: Path) -> None:
    assert read_manifest(path).metadata.name


def test_the_adapters_of_the_examples_are_good_and_of_a_model_beside_them() -> None:
    adapters = [
        (parse(FineTunedAdapter, each), read_manifest(path))
        for path in EXAMPLES
        for each in yaml.safe_load_all(path.read_text())
        if each["kind"] == FINE_TUNED_ADAPTER.kind
    ]
    assert adapters
    assert {(adapter.spec.model, "Dynamic") for adapter, _ in adapters} == {
        (model.metadata.name, model.spec.mode) for _, model in adapters
    }


def test_the_smallest_example_is_the_one_that_the_reference_explains() -> None:
    shown = reference(FINE_TUNED_MODEL).split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples/minimal.yaml").read_text())
