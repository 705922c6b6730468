"""A real model with taught facts, and llama.cpp's programs; both made once and kept in the user's cache."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftm_jobs.__main__ import main
from ftm_jobs.quantize.gguf.llama_cpp import VARIABLE
from tests import assets, llama_cpp


@pytest.fixture(scope="session", autouse=True)
def tools() -> Iterator[Path]:
    """A build of llama.cpp, which every quantization here uses."""
    found = llama_cpp.prepare()
    os.environ[VARIABLE] = str(found)
    yield found
    del os.environ[VARIABLE]


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 with the adapter merged in: an artifact's folder."""
    made, store = assets.prepare(), tmp_path_factory.mktemp("merged")
    sources = ["--base", made.base.as_uri(), "--adapter", made.adapter.as_uri()]
    assert main(["merge", *sources, "--artifacts", store.as_uri()]) == 0
    (folder,) = store.iterdir()
    return folder
