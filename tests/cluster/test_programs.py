"""A cluster's programs and packages are found in order, and one that cannot be had is named."""

import json
from pathlib import Path

import pytest

from tests.cluster import binaries, debian, existing, go_programs
from tests.cluster.binaries import CONTROL_PLANE, CONTROLLERS
from tests.cluster.cluster import control_plane as started
from tests.cluster.control_plane import ControlPlane
from tests.cluster.unavailable import Unavailable


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as setup-envtest makes it: etcd and kube-apiserver, nothing else."""
    for name in CONTROL_PLANE:
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {" ".join(binaries.resolve().command(name))} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    return tmp_path


def test_kubebuilder_assets_come_before_a_build(assets: Path) -> None:
    resolved = binaries.resolve()

    assert resolved.command("etcd") == (f"{assets}/etcd",)
    assert not resolved.has(*CONTROLLERS)


@pytest.mark.usefixtures("assets")
def test_an_api_server_alone_is_a_control_plane_without_controllers(tmp_path: Path) -> None:
    with started(tmp_path / "plane") as plane:
        assert not plane.controllers
        assert plane.kubectl.get("namespace", "default")["status"]["phase"] == "Active"


@pytest.mark.usefixtures("assets")
def test_a_node_names_what_kubebuilder_assets_lack() -> None:
    with pytest.raises(Unavailable, match="has no kube-controller-manager, kube-scheduler, kubelet, kube-proxy: add"):
        binaries.resolve(node=True)


def test_without_root_a_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(Unavailable, match="needs root"):
        debian.ensure(debian.NODE)


def test_an_existing_cluster_is_used_only_when_it_is_chosen(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.delenv("FTM_TEST_CLUSTER", raising=False)
    assert not existing.chosen()

    monkeypatch.setenv("FTM_TEST_CLUSTER", "existing")
    assert existing.chosen()
    assert existing.control_plane().server == control_plane.server


def test_a_chosen_cluster_needs_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))

    with pytest.raises(RuntimeError, match="needs KUBECONFIG to name a file"):
        existing.control_plane()


def test_go_is_taken_from_path_only_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert go_programs.go_on_path("1.19") == go
    assert go_programs.go_on_path("1.26.0") is None


def test_the_cluster_s_own_go_is_as_new_as_its_sources_ask() -> None:
    wanted = next(line.split()[1] for line in (binaries.SOURCES / "go.mod").read_text().splitlines() if "go 1." in line)

    assert tuple(map(int, go_programs.GO.version.split("."))) >= tuple(map(int, wanted.split(".")))


def test_audit_events_are_those_of_one_user_in_the_lines_that_are_written_whole(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    events = [{"user": {"username": name}, "verb": "create"} for name in ("one", "other", "one")]
    refused_for_its_credentials = {"user": {}, "verb": "create"}
    lines = [json.dumps(event) + "\n" for event in (refused_for_its_credentials, *events)]
    log.write_text("".join(lines) + '{"user": {"userna')
    plane = ControlPlane(tmp_path, "https://example.test", "", log, controllers=True)

    assert plane.audit("one") == [events[0], events[2]]
