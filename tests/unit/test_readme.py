"""README.md tells people to type what exists, and to write what is valid."""

import re
from pathlib import Path

import pytest
import yaml

from ftm_operator.api.v1alpha1 import FineTunedModel

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z ]+?)(?: +#.*)?$", README, re.MULTILINE))))
def test_its_make_targets_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in target.split():
        assert re.search(rf"^{name}: .*##", makefile, re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_its_smallest_manifest_is_valid_and_the_one_in_examples() -> None:
    [manifest] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    written = yaml.safe_load(manifest)
    FineTunedModel.model_validate(written)
    assert written == yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
