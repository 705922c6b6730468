"""`ftm artifacts`: what reaches the Jobs' command, what is printed, and what a cluster refers to."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from ftm_jobs.contract.manifest import Catalogue, Manifest, ManifestFile, ManifestInput, StoredArtifact
from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.command import artifacts as artifact_commands
from ftm_operator.local import steps as local
from ftm_operator.observe.references import references
from ftm_operator.planning.input_hashes import merged_key
from ftm_operator.runtime.cluster import Listing
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.objects import facts
from tests.unit.operator.objects import resource as stored

KEPT, OTHER, SERVED = (f"merge-{digit * 32}" for digit in "123")
ADAPTER = f"adapter-{'4' * 32}"
STORE = "s3://artifacts/built"


class Command:
    """Stands in for `python -m ftm_jobs artifacts`."""

    def __init__(self) -> None:
        self.answer = Catalogue(outcome=Outcome.DONE, reason="Listed", message="a sentence")
        self.ran: list[str] = []

    def __call__(self, step: Step, arguments: list[str]) -> tuple[int, str]:
        assert step is Step.ARTIFACTS
        self.ran = arguments
        return 0, self.answer.model_dump_json(by_alias=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    stand_in = Command()
    monkeypatch.setattr(local, "last_line", stand_in)
    return stand_in


def cluster_with(monkeypatch: pytest.MonkeyPatch, *models: Any) -> None:
    async def observe() -> artifact_commands._Observed:
        return artifact_commands._Observed(list(models), [], [])

    monkeypatch.setattr(artifact_commands, "_observe", observe)


class OneGroup:
    """A cluster whose only child is a LeaderWorkerSet, if it has such, and with one adapter, if it has such.

    `revisions` are its ControllerRevisions.
    """

    def __init__(self, has_groups: bool, has_adapters: bool = False, *revisions: dict[str, Any]) -> None:
        self._items: dict[str, list[dict[str, Any]]] = {
            "FineTunedModel": [resource(KEPT)],
            "Deployment": [],
            "Pod": [],
            "ControllerRevision": list(revisions),
            **({"LeaderWorkerSet": [{"spec": {"args": [f"{STORE}/{SERVED}"]}}]} if has_groups else {}),
            **({"FineTunedAdapter": [{"status": {"artifact": {"key": ADAPTER}}}, {}]} if has_adapters else {}),
        }

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Self]:
        yield self

    async def serves(self, kind: str) -> bool:
        return kind in self._items

    async def list(self, kind: str) -> Listing:
        return Listing(self._items[kind], 1)


def resource(key: str) -> dict[str, Any]:
    merged = {"key": key, "uri": f"{STORE}/{key}", "digest": "sha256:0", "totalBytes": 1, "files": 1}
    return {"status": {"artifacts": {"merged": merged}}}


def test_list_is_a_row_for_each_artifact_with_what_it_was_made_of(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    written = datetime.now(UTC) - timedelta(hours=5)
    inputs = (
        ManifestInput(role="base", uri="hf://org/base@1", digest="sha256:0"),
        ManifestInput(role="adapter", uri="s3://models/a", digest="sha256:0", scale=0.5),
    )
    whole = StoredArtifact(key=KEPT, complete=True, total_bytes=14_500_000_000, files=5, written=written, inputs=inputs)
    part = StoredArtifact(key=OTHER, complete=False, total_bytes=0, files=0, notes=("it has no manifest",))
    command.answer = command.answer.model_copy(update={"artifacts": (whole, part)})
    assert ftm(capsys, "artifacts", "list", STORE) == (
        0,
        f"""\
{KEPT}  complete      14.50 GB  5h
  base     hf://org/base@1
  adapter  s3://models/a x 0.5
{OTHER}  incomplete         0 B
  note     it has no manifest
a sentence
""",
        "",
    )
    assert command.ran == ["list", STORE]


def test_show_is_the_manifest_in_words(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest(
        key=KEPT,
        step=Step.MERGE,
        recipe=1,
        inputs=(ManifestInput(role="base", uri="hf://org/base@1", digest="sha256:base"),),
        files=(ManifestFile(path="model.safetensors", size=1000, sha256="f" * 64),),
        tools={"torch": "2.13.0"},
    )
    command.answer = command.answer.model_copy(update={"manifest": manifest})
    assert (
        ftm(capsys, "artifacts", "show", STORE, KEPT)[1]
        == f"""\
{KEPT}
  made by   merge, recipe 1
  torch     2.13.0
  base      hf://org/base@1
            sha256:base
  model.safetensors     1.00 kB  sha256:{"f" * 64}
1 files, 1.00 kB
"""
    )
    assert json.loads(ftm(capsys, "artifacts", "show", STORE, KEPT, "-o", "json")[1]) == manifest.to_json()


def test_verify_exits_with_2_when_an_artifact_is_not_as_it_was_written(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = StoredArtifact(key=KEPT, complete=True, total_bytes=1, files=1, notes=("a has sha256 1, not 2",))
    command.answer = Catalogue(
        outcome=Outcome.INVALID_INPUT, reason="CorruptArtifact", message="a sentence", artifacts=(wrong,)
    )
    code, out, _ = ftm(capsys, "artifacts", "verify", STORE, KEPT)
    assert (code, command.ran) == (2, ["verify", STORE, KEPT])
    assert "  note     a has sha256 1, not 2\na sentence\n" in out


def test_gc_keeps_what_the_cluster_refers_to_and_only_says_what_it_would_do(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_with(monkeypatch, resource(OTHER), resource(KEPT), resource(KEPT))
    code, _, err = ftm(capsys, "artifacts", "gc", STORE)
    assert (code, command.ran) == (0, ["gc", STORE, "--keep", KEPT, OTHER])
    assert err == "ftm: 3 FineTunedModels refer to 2 artifacts\n"


@pytest.mark.parametrize("has_groups", [True, False], ids=["with LeaderWorkerSet", "without it"])
def test_gc_keeps_what_a_leader_worker_set_without_pods_would_fetch(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, has_groups: bool
) -> None:
    monkeypatch.setattr(artifact_commands, "Cluster", OneGroup(has_groups))
    assert ftm(capsys, "artifacts", "gc", STORE)[0] == 0
    assert command.ran == ["gc", STORE, "--keep", KEPT, *([SERVED] if has_groups else [])]


def test_gc_keeps_the_adapters_that_are_served_unmerged(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_commands, "Cluster", OneGroup(has_groups=False, has_adapters=True))
    code, _, err = ftm(capsys, "artifacts", "gc", STORE)
    assert (code, command.ran) == (0, ["gc", STORE, "--keep", ADAPTER, KEPT])
    assert err == "ftm: 1 FineTunedModels and 2 FineTunedAdapters refer to 2 artifacts\n"


def test_gc_keeps_what_can_be_rolled_back_to(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"data": {"uri": f"{STORE}/{SERVED}", "child": {"spec": {}}}}
    monkeypatch.setattr(artifact_commands, "Cluster", OneGroup(False, False, kept))
    assert ftm(capsys, "artifacts", "gc", STORE)[0] == 0
    assert command.ran == ["gc", STORE, "--keep", KEPT, SERVED]


def test_gc_keeps_what_a_status_lists_as_a_version(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = resource(KEPT)
    listed["status"]["versions"] = [{"key": "0" * 16, "state": "Kept", "uri": f"{STORE}/{OTHER}"}]
    cluster_with(monkeypatch, listed)
    assert ftm(capsys, "artifacts", "gc", STORE)[0] == 0
    assert command.ran == ["gc", STORE, "--keep", KEPT, OTHER]


def test_gc_with_keep_asks_no_cluster_and_acts_when_told_to(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ftm(capsys, "artifacts", "gc", STORE, "--keep", OTHER, "--keep", KEPT, "--delete")[0] == 0
    assert command.ran == ["gc", STORE, "--delete", "--keep", KEPT, OTHER]


def test_gc_refuses_when_nothing_refers_to_anything(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_with(monkeypatch)
    code, _, err = ftm(capsys, "artifacts", "gc", STORE, "--delete")
    assert (code, command.ran) == (2, [])
    assert err == (
        "ftm: the cluster's 0 FineTunedModels refer to no artifact, so all would go; if this is the right cluster, "
        "name the artifacts to keep: --keep KEY\n"
    )


def test_gc_refuses_without_a_cluster(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    code, _, err = ftm(capsys, "artifacts", "gc", STORE, "--delete")
    assert (code, command.ran) == (2, [])
    assert "ftm: the cluster cannot be asked which artifacts it refers to: there is no kubeconfig at" in err
    for broken in (b"", b"a: [", b"text", b"\xff", b"contexts: 1", b"current-context: a"):
        (tmp_path / "kubeconfig").write_bytes(broken)
        code, _, err = ftm(capsys, "artifacts", "gc", STORE, "--delete")
        assert (code, command.ran) == (2, [])
        assert 'kubeconfig" names no cluster' in err


def test_what_is_being_built_and_what_a_pod_fetches_is_referred_to() -> None:
    building = stored() | {"status": {"facts": facts().to_json()}}
    pod = {"spec": {"initContainers": [{"args": ["fetch", "--artifact", f"{STORE}/{SERVED},digest=sha256:0"]}]}}
    unreadable = {"spec": {}, **resource(OTHER)}
    wanted = merged_key(FineTunedModel.model_validate(building).spec, facts())
    assert references([building, unreadable, {"spec": {}}], [], [pod]) == {wanted, OTHER, SERVED}
