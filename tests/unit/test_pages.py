"""README.md, CONTRIBUTING.md, docs/architecture.md and the page on GitOps name targets, links and paths that exist."""

import re
from pathlib import Path

import pytest
import yaml

from ftm_operator.api.v1alpha1 import FineTunedModel

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/reference/gitops.md")
PAGES = {name: (ROOT / name).read_text() for name in NAMES}
MAKEFILE = (ROOT / "Makefile").read_text()
FOLDERS = "charts|crds|docs|examples|images|jobs|operator|requirements|tests"


def found(pattern: str) -> list[tuple[str, str]]:
    """Returns every match of a pattern's group, with the page that it is in."""
    return sorted({(page, match) for page, text in PAGES.items() for match in re.findall(pattern, text, re.MULTILINE)})


@pytest.mark.parametrize(("page", "targets"), found(r"^    make ([a-z -]+?)(?: +#.*)?$") + found(r"`make ([a-z-]+)`"))
def test_make_targets_exist(page: str, targets: str) -> None:
    for name in targets.split():
        assert re.search(rf"^{name}: .*##", MAKEFILE, re.MULTILINE), page


@pytest.mark.parametrize(("page", "link"), found(r"\]\(([^)]+)\)"))
def test_links_lead_somewhere(page: str, link: str) -> None:
    assert ((ROOT / page).parent / link).exists()


@pytest.mark.parametrize(("page", "path"), found(rf"[` ]((?:{FOLDERS})/[\w./-]+)"))
def test_paths_exist(page: str, path: str) -> None:
    assert (ROOT / path).exists(), page


def test_contributing_lists_every_suite_that_make_test_runs() -> None:
    lanes = re.findall(r"^(?:WAITING|COMPUTING) := ([a-z0-9 -]+)$", MAKEFILE, re.MULTILINE)
    assert len(lanes) == 2
    rows = {target for page, target in found(r"`make ([a-z0-9-]+)`") if page == "CONTRIBUTING.md"}
    assert set(" ".join(lanes).split()) <= rows | {"lint", "unit"}


def test_readmes_smallest_manifest_is_valid_and_the_one_in_examples() -> None:
    [manifest] = re.findall(r"```yaml\n(.*?)```", PAGES["README.md"], re.DOTALL)
    written = yaml.safe_load(manifest)
    FineTunedModel.model_validate(written)
    assert written == yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
