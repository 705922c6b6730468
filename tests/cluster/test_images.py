"""When an image is built again: exactly when something that it is made from has changed."""

from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.catalogue import (
    GGUF,
    JOBS,
    MERGE,
    MERGE_REQUIREMENTS,
    OPERATOR,
    OWN,
    QUANTIZE_AWQ,
    QUANTIZE_COMPRESSOR,
    QUANTIZE_GGUF,
    SERVE_LLAMACPP,
    VLLM_CPU,
)
from tests.cluster.images import Image


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(images, "ROOT", tmp_path)
    (tmp_path / "code/__pycache__").mkdir(parents=True)
    (tmp_path / "code/module.py").write_text("one = 1\n")
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    return tmp_path


def image(repository: Path, base: Image | None = None) -> Image:
    return Image("localhost/image:test", repository / "Containerfile", base=base, copies=("code",))


def test_an_image_s_inputs_stay_when_nothing_that_it_copies_changes(repository: Path) -> None:
    before = image(repository).inputs()
    (repository / "code/__pycache__/module.pyc").write_text("compiled")
    (repository / "beside.py").write_text("not copied")

    assert image(repository).inputs() == before


@pytest.mark.parametrize("changed", ["code/module.py", "code/new.py", "Containerfile"])
def test_an_image_s_inputs_change_with_each_file_that_it_is_made_from(repository: Path, changed: str) -> None:
    before = image(repository).inputs()
    (repository / changed).write_text("changed")

    assert image(repository).inputs() != before


def test_an_image_s_inputs_change_with_its_base(repository: Path) -> None:
    base = Image("localhost/base:test", repository / "Containerfile", parameters=("bookworm",))
    newer = Image("localhost/base:test", repository / "Containerfile", parameters=("trixie",))

    assert image(repository, base).inputs() != image(repository, newer).inputs()


def test_a_file_that_became_a_program_is_a_change(repository: Path) -> None:
    before = image(repository).inputs()
    (repository / "code/module.py").chmod(0o755)

    assert image(repository).inputs() != before


@pytest.mark.parametrize(
    "one",
    [OPERATOR, JOBS, MERGE, MERGE_REQUIREMENTS, VLLM_CPU, *GGUF, QUANTIZE_AWQ, QUANTIZE_COMPRESSOR],
    ids=lambda one: one.name,
)
def test_what_an_image_copies_is_what_its_containerfile_copies(one: Image) -> None:
    stages = ["FROM" + stage for stage in one.containerfile.read_text().split("\nFROM")[1:]]
    if one.target:
        end = next(number for number, stage in enumerate(stages) if f" AS {one.target}\n" in stage)
        stages = stages[: end + 1]
    lines = [line for stage in stages for line in stage.splitlines() if line.startswith("COPY ")]
    copied = [word for line in lines if "--from=" not in line for word in line.split()[1:-1]]

    assert sorted(one.copies) == sorted(copied)


def _stage(containerfile: Path, name: str) -> list[str]:
    """Its instructions, without what names it."""
    (stage,) = [part for part in containerfile.read_text().split("\nFROM") if f" AS {name}\n" in part]
    return stage.strip().splitlines()[1:]


def test_llama_cpp_is_compiled_once_for_both_images_that_hold_it() -> None:
    assert _stage(QUANTIZE_GGUF.containerfile, "llama.cpp") == _stage(SERVE_LLAMACPP.containerfile, "llama.cpp")


def test_the_gguf_image_shares_the_merge_image_s_torch() -> None:
    shared = _stage(OWN / "merge/Containerfile", "requirements")
    assert _stage(QUANTIZE_GGUF.containerfile, "requirements")[: len(shared)] == shared
