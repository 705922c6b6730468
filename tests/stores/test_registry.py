"""`publish`, against a real registry: what it holds is an image of the artifact, pushed once, by those who may."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.registry.image import INDEX, LAYER, MANIFEST
from tests.places import S3, write_secret
from tests.servers.proxy import proxy
from tests.servers.registry import RegistryServer, registry
from tests.step_fixtures import Run

KEY = "merge-0123456789abcdef0123456789abcdef"
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 40_000,
    "model-00002-of-00002.safetensors": b"\x01" * 3_000_000,
    "tokenizer/vocab.json": b'{"a": 0}',
}
Publish = Callable[..., Report]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / KEY
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    files = tuple(
        ManifestFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in FILES.items()
    )
    manifest = Manifest(key=KEY, step=Step.MERGE, recipe=1, inputs=(), files=files)
    (folder / "manifest.json").write_bytes(encode(manifest))
    return folder


@pytest.fixture
def small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each file of weights a layer of its own."""
    monkeypatch.setattr("ftm_jobs.registry.layers.FULL_LAYER_BYTES", 4_000_000)


@pytest.fixture
def publish(run: Run, tmp_path: Path, artifact: Path) -> Publish:
    def published(docker: RegistryServer, path: str, source: str | None = None, **login: Any) -> Report:
        secret = write_secret(tmp_path, docker.config(**login))
        to = "--to", f"{docker.host}/{path}"
        return run("publish", "--artifact", source or artifact.as_uri(), *to, "--registry-credentials", str(secret))

    return published


def _files_of(docker: RegistryServer, path: str, image: str) -> dict[str, bytes]:
    """Returns the files of an image, by way of each of its manifests, which must have the same."""
    digest = image.partition("@")[2]
    index = docker.get(f"{path}/manifests/{digest}", INDEX)
    assert f"sha256:{hashlib.sha256(index.content).hexdigest()}" == digest
    assert {entry["platform"]["architecture"] for entry in index.json()["manifests"]} == {"amd64", "arm64"}
    seen = [_files_of_manifest(docker, path, entry["digest"]) for entry in index.json()["manifests"]]
    assert all(files == seen[0] for files in seen)
    return seen[0]


def _files_of_manifest(docker: RegistryServer, path: str, digest: str) -> dict[str, bytes]:
    manifest = docker.get(f"{path}/manifests/{digest}", MANIFEST).json()
    config = docker.get(f"{path}/blobs/{manifest['config']['digest']}").json()
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    files: dict[str, bytes] = {}
    for layer in manifest["layers"]:
        assert layer["mediaType"] == LAYER
        with tarfile.open(fileobj=io.BytesIO(docker.get(f"{path}/blobs/{layer['digest']}").content)) as archive:
            for entry in archive.getmembers():
                assert (entry.uid, entry.gid, entry.mtime, entry.uname) == (0, 0, 0, "")
                if content := archive.extractfile(entry):
                    files[entry.name] = content.read()
    return files


def test_an_image_holds_the_artifact_with_its_manifest(
    docker: RegistryServer, publish: Publish, artifact: Path
) -> None:
    report = publish(docker, "models/whole")
    assert (report.reason, report.reused) == ("Published", False)
    assert report.image
    assert report.image.startswith(f"{docker.host}/models/whole@sha256:")
    manifest = {"manifest.json": (artifact / "manifest.json").read_bytes()}
    assert _files_of(docker, "models/whole", report.image) == {**FILES, **manifest}
    tagged = docker.get(f"models/whole/manifests/{KEY}", INDEX)
    assert tagged.headers["Docker-Content-Digest"] == report.image.partition("@")[2]


@pytest.mark.usefixtures("small_layers")
def test_a_second_run_pushes_nothing(docker: RegistryServer, publish: Publish) -> None:
    first = publish(docker, "models/twice")
    puts = docker.requests("PUT", "/models/twice/")
    second = publish(docker, "models/twice")
    assert (second.reason, second.image, second.reused) == ("AlreadyPublished", first.image, True)
    assert docker.requests("PUT", "/models/twice/") == puts


@pytest.mark.usefixtures("small_layers")
def test_the_digest_depends_on_the_artifact_alone(
    docker: RegistryServer, publish: Publish, artifact: Path, s3: S3
) -> None:
    from_disk = publish(docker, "models/disk").image
    from_s3 = publish(docker, "elsewhere/s3", s3.upload(artifact)).image
    assert from_disk
    assert from_s3
    assert from_disk.partition("@")[2] == from_s3.partition("@")[2]


@pytest.mark.usefixtures("small_layers")
def test_a_run_that_broke_off_goes_on_from_the_layers_that_are_there(
    docker: RegistryServer, publish: Publish, artifact: Path
) -> None:
    whole = publish(docker, "models/broken-whole").image
    broken = artifact / "tokenizer/vocab.json"
    broken.write_bytes(b"{wrong!}")
    report = publish(docker, "models/broken")
    assert report.reason == "CorruptArtifact"
    assert docker.requests("PUT", "/models/broken/blobs/") == 2  # the last of three layers has the wrong file
    broken.write_bytes(FILES["tokenizer/vocab.json"])
    again = publish(docker, "models/broken")
    assert again.image
    assert whole
    assert again.image.partition("@")[2] == whole.partition("@")[2]
    layers, configs = 3, 2
    assert docker.requests("PUT", "/models/broken/blobs/") == layers + configs


def test_nothing_of_a_corrupt_artifact_is_sent(docker: RegistryServer, publish: Publish, artifact: Path) -> None:
    (artifact / "config.json").write_bytes(b"[]")
    report = publish(docker, "models/corrupt")
    assert report.reason == "CorruptArtifact"
    assert "config.json has sha256" in report.message
    assert docker.requests("POST", "/models/corrupt/") == 0


def test_a_wrong_password_is_refused_with_what_to_correct(docker: RegistryServer, publish: Publish) -> None:
    report = publish(docker, "models/denied", password="wrong")
    assert (report.outcome, report.reason) == ("InvalidInput", "AccessDenied")
    assert report.message.startswith(f"{docker.host}/models/denied: the registry refuses the push (401 ")


def test_a_secret_without_this_registry_is_refused_by_name(docker: RegistryServer, publish: Publish) -> None:
    report = publish(docker, "models/other", host="other.example.com")
    assert report.reason == "AccessDenied"
    assert f"has credentials for other.example.com, not for {docker.host}: add them" in report.message


@pytest.mark.parametrize("identity", [False, True], ids=["password", "identity token"])
def test_a_registry_with_an_authority_gives_a_token_for_the_repository(
    publish: Publish, tmp_path: Path, identity: bool
) -> None:
    with registry(tmp_path / "registry", tokens=True) as docker:
        report = publish(docker, "models/tokens", identity=identity)
        assert report.reason == "Published", report.message
        assert publish(docker, "models/tokens", identity=identity).reused


def test_a_connection_that_breaks_off_is_tried_again(docker: RegistryServer, publish: Publish) -> None:
    with proxy(f"http://{docker.host}") as between:
        between.cut_at = [2_000]
        far = RegistryServer(between.endpoint.removeprefix("http://"), docker.folder, docker.log)
        report = publish(far, "models/cut")
        assert between.cuts == 1
    assert report.reason == "Published", report.message
