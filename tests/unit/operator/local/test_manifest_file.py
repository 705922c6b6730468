"""`ftm` reads a manifest from a file, and says what is wrong with one that it cannot read."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            TEXT + "  base: {uri: x}\n",
            r'bot\.yaml line 8: "base" is there twice, first on line 6; keep one of',
        ),
        ("metadata: {name: a, name: b}", r'line 1: "name" is there twice, first on line 1'),
        ("a: &a {b: 1}\nc: {<<: *a, b: 2}\nkind: x", "holds 0 objects"),
        ("[" * 100_000, "is nested deeper than 100 levels; write it flatter"),
        ("a: " + "[" * 200 + "]" * 200, "line 1: nested deeper than 100 levels"),
        ("a: &a [*a]", "nested deeper than 100 levels"),
        ("&a [*a, *a]", "holds more than 100000 values|nested deeper"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]\n" for n in range(1, 9)),
            "holds more than 100000 values with its aliases; write fewer",
        ),
        ("a: 2020-13-45", "is not YAML: month must be in 1..12"),
        ("a: !!bool x", "is not YAML: a value is not what its tag says"),
        ("a: !!float ''", "is not YAML: a value is not what its tag says"),
        ("a: !!timestamp x", "is not YAML: a value is not what its tag says"),
        (f"a: {5000 * '9'}", "is not YAML: Exceeds the limit"),
        ("a: !!python/object:os.system x", "is not YAML: could not determine a constructor"),
        ("a: b\n\tc: d", "is not YAML: .*cannot start any token"),
        ("? {a: b}\n: c", "is not YAML: .*unhashable"),
        ("", "holds 0 objects of kind FineTunedModel"),
        ("# nothing", "holds 0 objects of kind FineTunedModel"),
        ("kind: FineTunedModel", "apiVersion: is required"),
        (TEXT.replace("[{name: a", "[] #"), "spec: there is nothing to merge; name an adapter in adapters"),
        (TEXT.replace("{name: bot}", "[1: 2]"), "metadata"),
        (TEXT.replace("hf://org/b", "s3://b/x"), r'adapters\[1\].uri: "s3://b/x" has a bucket\'s name of fewer than 3'),
        (r'a: "\ud83d"', r"line 1: a \\ud800 to \\udfff stands alone; write UTF-8"),
        (r'kind: "\ud83d\ude00"', "holds 0 objects"),
        (TEXT.replace("spec:", "1: 2\nspec:"), "1: "),
    ],
)
def test_yaml_that_means_two_things_or_too_much_is_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidManifest, match=sentence):
        read_manifest(written(tmp_path, text))


def test_text_that_is_not_utf_8_is_refused_naming_the_byte(tmp_path: Path) -> None:
    (tmp_path / "bot.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InvalidManifest, match=r"bot\.yaml is not UTF-8 \(invalid start byte at byte 3\)"):
        read_manifest(tmp_path / "bot.yaml")


PIECES = ["&a ", "*a", "<<: ", "- ", ": ", "{", "}", "[", "]", ", ", "\n", "  ", "---\n", '"', "'", "#", "|"]
VALUES = [
    "!!int ",
    "!!set ",
    "spec",
    "kind: FineTunedModel",
    "uri",
    "null",
    ".nan",
    "1e999",
    "0x1f",
    "2001-01-01",
    "|",
    "<<",
    "name: a",
]


@given(
    st.lists(st.sampled_from([*PIECES, *VALUES]) | st.text(max_size=3), max_size=25).map("".join),
    st.integers(0, len(TEXT)),
)
@settings(deadline=None, max_examples=200)
def test_no_text_ends_otherwise_than_with_a_manifest_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, piece: str, place: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    for text in (piece, TEXT[:place] + piece + TEXT[place:]):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with suppress(InvalidManifest):
            read_manifest(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match=r"none\.yaml: No such file"):
        read_manifest(tmp_path / "none.yaml")
