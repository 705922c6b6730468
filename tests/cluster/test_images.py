"""An image is built again exactly when something that it is made from has changed."""

from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.catalogue import (
    GGUF,
    JOBS,
    MERGE,
    MERGE_REQUIREMENTS,
    OPERATOR,
    QUANTIZE_AWQ,
    QUANTIZE_COMPRESSOR,
    QUANTIZE_GGUF,
    SERVE_LLAMACPP,
    VLLM_CPU,
)
from tests.cluster.containerfile import stages_of
from tests.cluster.images import Image


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(images, "ROOT", tmp_path)
    (tmp_path / "code/__pycache__").mkdir(parents=True)
    (tmp_path / "code/module.py").write_text("one = 1\n")
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY code /code\n")
    return tmp_path


def image(repository: Path, base: Image | None = None) -> Image:
    return Image("localhost/image:test", repository / "Containerfile", base=base)


def test_an_image_s_inputs_stay_when_nothing_that_it_copies_changes(repository: Path) -> None:
    before = image(repository).inputs()
    (repository / "code/__pycache__/module.pyc").write_text("compiled")
    (repository / "beside.py").write_text("not copied")

    assert image(repository).inputs() == before


@pytest.mark.parametrize("changed", ["code/module.py", "code/new.py", "Containerfile"])
def test_an_image_s_inputs_change_with_each_file_that_it_is_made_from(repository: Path, changed: str) -> None:
    before = image(repository).inputs()
    (repository / changed).write_text("FROM changed\nCOPY code /code\n")

    assert image(repository).inputs() != before


def test_an_image_s_inputs_change_with_its_base(repository: Path) -> None:
    base = Image("localhost/base:test", repository / "Containerfile", parameters=("bookworm",))
    newer = Image("localhost/base:test", repository / "Containerfile", parameters=("trixie",))

    assert image(repository, base).inputs() != image(repository, newer).inputs()


def test_a_file_that_became_a_program_is_a_change(repository: Path) -> None:
    before = image(repository).inputs()
    (repository / "code/module.py").chmod(0o755)

    assert image(repository).inputs() != before


def test_a_target_s_inputs_are_those_of_the_stages_that_it_is_made_from(repository: Path) -> None:
    containerfile = repository / "Containerfile"
    text = "FROM scratch AS shared\nCOPY code /code\n\nFROM shared AS one\nUSER 1\n\nFROM shared AS two\nUSER 2\n"
    containerfile.write_text(text)
    one, two = (Image("localhost/image:test", containerfile, target=target) for target in ("one", "two"))
    before = one.inputs(), two.inputs()
    containerfile.write_text(text.replace("USER 2", "USER 3"))
    assert (one.inputs() == before[0], two.inputs() == before[1]) == (True, False)
    containerfile.write_text(text.replace("COPY code", "COPY --chmod=444 code"))
    assert (one.inputs() == before[0], two.inputs() == before[1]) == (False, False)


CODE = "jobs/ftm_jobs"
LLAMA_CPP = ("requirements/llama-cpp.txt", "images/llama.cpp/build.sh")


@pytest.mark.parametrize(
    ("image", "copies"),
    [
        (
            OPERATOR,
            (
                *("requirements/operator.txt", f"{CODE}/__init__.py", f"{CODE}/contract", "operator/ftm_operator"),
                f"{CODE}/transformers_tables/config_defaults.json",
            ),
        ),
        (JOBS, ("requirements/jobs.txt", CODE)),
        (MERGE_REQUIREMENTS, ("requirements/merge.txt",)),
        (MERGE, ("requirements/merge.txt", CODE)),
        (VLLM_CPU, ("requirements/vllm-cpu.txt",)),
        (SERVE_LLAMACPP, LLAMA_CPP),
        (QUANTIZE_GGUF, (*LLAMA_CPP, "requirements/merge.txt", "requirements/quantize-gguf.txt", CODE)),
        (QUANTIZE_AWQ, ("requirements/quantize-awq.txt", CODE)),
        (QUANTIZE_COMPRESSOR, ("requirements/quantize-compressor.txt", CODE)),
    ],
    ids=lambda value: value.name if isinstance(value, Image) else "",
)
def test_an_image_copies_its_own_requirements_and_code_and_no_other_s(image: Image, copies: tuple[str, ...]) -> None:
    assert sorted(image.copies()) == sorted(copies)


def stage_names(image: Image) -> list[str]:
    return [stage.name for stage in stages_of(image.containerfile, image.target)]


def test_llama_cpp_is_compiled_once_for_both_images_that_hold_it() -> None:
    assert all("llama.cpp" in stage_names(image) for image in GGUF)


def test_the_gguf_image_shares_the_merge_image_s_torch() -> None:
    assert "merge-requirements" in stage_names(QUANTIZE_GGUF)
    assert "merge-requirements" in stage_names(MERGE)
