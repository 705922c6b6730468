"""`ftm` reads a manifest from a file, and says what is wrong with one that it cannot read."""

from pathlib import Path

import pytest

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.local.manifest_file import file_path, read_manifest

TEXT = """
apiVersion: ftm.dev/v1alpha1
kind: FineTunedModel
metadata: {name: bot}
spec:
  base: {uri: "file://models/my%20base"}
  adapters: [{name: a, uri: "file:///elsewhere/adapter"}, {name: b, uri: "hf://org/b"}]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "bot.yaml"
    path.write_text(text)
    return path


def test_a_relative_file_uri_is_resolved_against_the_manifests_folder(tmp_path: Path) -> None:
    spec = read_manifest(written(tmp_path, TEXT)).spec
    assert file_path(spec.base.uri) == tmp_path / "models" / "my base"
    assert [adapter.uri for adapter in spec.adapters] == ["file:///elsewhere/adapter", "hf://org/b"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML"),
        ("kind: ConfigMap", "holds 0 objects of kind FineTunedModel; write exactly one"),
        (f"{TEXT}---{TEXT}", "holds 2 objects of kind FineTunedModel; write exactly one"),
        (TEXT.replace("uri: ", "url: ", 1), "spec.base"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidManifest, match=sentence):
        read_manifest(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match=r"none\.yaml: No such file"):
        read_manifest(tmp_path / "none.yaml")
