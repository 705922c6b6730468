"""A manifest is believed only as far as it is right."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.artifacts.manifest import encode, read_manifest
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.file import FileStore

MANIFEST = Manifest(
    key="merge-0", step=Step.MERGE, recipe=1, inputs=(), files=(ManifestFile(path="a", size=1, sha256="0" * 64),)
)


def test_equal_manifests_have_equal_bytes_and_are_read_back(tmp_path: Path) -> None:
    text = encode(MANIFEST)
    assert text == encode(Manifest.model_validate_json(text))
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    store = FileStore(tmp_path)
    assert read_manifest(store, store.list()) == (MANIFEST, text)


def test_without_a_manifest_there_is_no_artifact(tmp_path: Path) -> None:
    assert read_manifest(FileStore(tmp_path), {}) is None


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"path": "../a"}, "names the file '../a', which is not a plain name of its own"),
        ({"path": "/etc/passwd"}, "names the file '/etc/passwd'"),
        ({"path": "a/../b"}, "names the file 'a/../b'"),
        ({"path": "a//b"}, "names the file 'a//b'"),
        ({"path": "a/.b"}, "names the file 'a/.b'"),
        ({"path": "a/b/"}, "names the file 'a/b/'"),
        ({"path": MANIFEST_NAME}, "names the file 'manifest.json'"),
        ({"size": -1}, 'has a wrong size or sha256 for "a"'),
        ({"sha256": "../x"}, 'has a wrong size or sha256 for "a"'),
        ({"size": "many"}, "is malformed at files.0.size"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(tmp_path: Path, file: dict[str, Any], sentence: str) -> None:
    content = MANIFEST.to_json()
    content["files"][0] |= file
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(content))
    store = FileStore(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        read_manifest(store, store.list())
    assert caught.value.reason is Reason.CORRUPT_ARTIFACT
    assert sentence in caught.value.message
    assert "delete the artifact, so that it is made again" in caught.value.message
