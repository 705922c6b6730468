"""Every example can be read as it is."""

from pathlib import Path

import pytest
import yaml

from ftm_operator.api.reference import reference
from ftm_operator.local.manifest_file import read_manifest

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_good_manifest(path: Path) -> None:
    assert read_manifest(path).metadata.name


def test_the_smallest_example_is_the_one_that_the_reference_explains() -> None:
    shown = reference().split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples/minimal.yaml").read_text())
