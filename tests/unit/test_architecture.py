"""docs/architecture.md lists the packages that there are, in the order in which they may import each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
CONTAINERS = {"ftm_operator": "operator/ftm_operator", "ftm_jobs": "jobs/ftm_jobs"}


def layers(container: str) -> list[set[str]]:
    """Returns the packages of each layer of the container's contract, from the highest."""
    (contract,) = [contract for contract in CONTRACTS if contract.get("containers") == [container]]
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def rows(container: str) -> list[set[str]]:
    """Returns the packages in each row of the container's table."""
    section = PAGE.split(f"`{CONTAINERS[container]}`\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    return [set(re.findall(r"\w+", cell)) for cell in cells]


@pytest.mark.parametrize("container", CONTAINERS)
def test_its_tables_are_the_layers_of_the_import_contracts(container: str) -> None:
    assert rows(container) == layers(container)


@pytest.mark.parametrize("container", CONTAINERS)
def test_its_tables_hold_every_folder(container: str) -> None:
    folders = {path.parent.name for path in (ROOT / CONTAINERS[container]).glob("*/__init__.py")}
    assert folders <= set().union(*rows(container))


def test_its_diagram_names_packages_and_modules_that_exist() -> None:
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    named = set(re.findall(r"\bftm_(?:operator|jobs)(?:\.\w+)+", diagram))
    assert len(named) >= 10
    for name in named:
        path = ROOT / ("operator" if name.startswith("ftm_operator") else "jobs") / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
