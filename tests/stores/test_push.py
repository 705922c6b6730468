"""`push`, against a fake of the hub's endpoints (tests/servers/hub.py): the real hub cannot run here."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard

from ftm_jobs.contract.report import Report
from tests.models.llamas import Kind, make_adapters, make_base
from tests.places import write_secret
from tests.servers.hub import TOKEN, UPLOADS, Hub, fake_hub
from tests.step_fixtures import Run

Push = Callable[..., Report]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with fake_hub() as found:
        yield found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = make_base(tmp_path / "base", Kind(shard="60KB"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    return folder


@pytest.fixture
def merged(tmp_path: Path, base: Path, run: Run) -> Path:
    adapter = make_adapters(tmp_path, base, Kind())[0]
    sources = "--base", base.as_uri(), "--adapter", f"{adapter.as_uri()},scale=0.5"
    assert run("merge", *sources, "--out", (tmp_path / "merged").as_uri()).reason == "Merged"
    return tmp_path / "merged"


@pytest.fixture
def push(merged: Path, base: Path, hub: Hub, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Push:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))

    def pushed(to: str = f"hf://{UPLOADS}", token: str | None = TOKEN) -> Report:
        secret = {"HF_ENDPOINT": hub.endpoint, **({"HF_TOKEN": token} if token else {})}
        target = f"{to},credentials={write_secret(tmp_path, secret)}"
        return run("push", "--model", merged.as_uri(), "--to", target, "--base", base.as_uri())

    return pushed


def test_the_hub_holds_the_merged_files_and_a_card_that_tells_what_they_are(
    push: Push, hub: Hub, merged: Path, tmp_path: Path
) -> None:
    report = push()
    assert report.reason == "Pushed", report.message
    assert report.message.startswith(f"pushed to hf://{UPLOADS}: ")
    assert hub.made[0]["visibility"] == "private"
    files = dict(hub.branches["main"])
    text = files.pop("README.md").decode()
    assert files.pop(".gitattributes") == b""
    local = {path.name: path.read_bytes() for path in merged.iterdir() if path.name != "manifest.json"}
    assert files == local
    card: Any = ModelCard(text).data
    assert (card.license, card.library_name, card.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    assert card.to_dict()["base_model_relation"] == "finetune"
    assert "| 0.5 | `sha256:" in text
    assert str(tmp_path) not in text
    for name, content in local.items():
        (tmp_path / "check").mkdir(exist_ok=True)
        (tmp_path / "check" / name).write_bytes(content)
    sums = text.partition("```\n")[2].partition("```")[0]
    assert sums.count("\n") == len(local)
    done = subprocess.run(["sha256sum", "-c"], input=sums, text=True, cwd=tmp_path / "check", capture_output=True)
    assert done.returncode == 0, done.stdout


def test_a_second_push_and_one_to_a_branch_are_no_error_and_send_no_weights_again(push: Push, hub: Hub) -> None:
    assert push().reason == "Pushed"
    stored = dict(hub.stored)
    assert push().reason == "Pushed"
    assert push(f"hf://{UPLOADS}@v2").reason == "Pushed"
    assert hub.stored == stored
    assert hub.branches["v2"] == hub.branches["main"]


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "config.json"])
def test_a_repository_that_holds_something_else_is_left_as_it_is(push: Push, hub: Hub, name: str) -> None:
    hub.branches["main"] = {name: b"mine"}
    report = push()
    assert report.reason == "DestinationTaken"
    assert f'holds "{name}", which was not pushed with this model: name a repository that is new' in report.message
    assert hub.branches["main"] == {name: b"mine"}


def test_without_a_token_or_with_one_that_may_not_write_nothing_is_sent(push: Push, hub: Hub) -> None:
    refused = push(token="hf_of_another")
    assert (refused.reason, "this token may not write there" in refused.message) == ("AccessDenied", True)
    without = push(token=None)
    assert (without.reason, "set HF_TOKEN to one that may write" in without.message) == ("AccessDenied", True)
    assert (hub.branches, hub.stored) == ({}, {})


def test_a_file_that_is_not_what_the_manifest_says_is_never_published(push: Push, hub: Hub, merged: Path) -> None:
    weights = next(merged.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    report = push()
    assert (report.reason, weights.name in report.message) == ("CorruptArtifact", True)
    assert hashlib.sha256(content).hexdigest() in report.message
    assert hub.branches["main"].keys() == {".gitattributes"}


def test_what_is_no_merge_or_no_repository_is_refused(push: Push, run: Run, base: Path) -> None:
    assert push("s3://bucket/merged").reason == "InvalidURI"
    nothing = run("push", "--model", base.as_uri(), "--to", f"hf://{UPLOADS}")
    assert (nothing.reason, "holds no complete merge" in nothing.message) == ("SourceNotFound", True)
