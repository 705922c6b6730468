"""An artifact that was pushed is mounted by a real node: containerd 2 pulls it once, by its digest, with its Secret.

The Pods have the volume and the Secret that the operator's builder gives serving Pods; their container hashes what it
sees there, in the place of an engine.
"""

import hashlib
from typing import Any

import pytest

from ftm_jobs.artifacts.image_upload import publish_image
from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.byte_counts import MIB
from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.steps import Step
from ftm_jobs.registry.client import Registry
from ftm_jobs.registry.login import Login
from ftm_jobs.registry.repository import PLAIN_HTTP, parse_repository
from ftm_jobs.stores.source import parse_source
from ftm_operator.api.errors import parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.image_volume import model_volume, with_pull_secret
from ftm_operator.resources.serving.engine import ServedWeights
from ftm_operator.steps.source import SourceArgument
from tests.cluster.catalogue import PAUSE
from tests.cluster.kubectl import Kubectl
from tests.cluster.stack import Stack
from tests.servers.registry import PASSWORD, USER, RegistryServer
from tests.unit.operator.objects import resource

KEY = "merge-0123456789abcdef0123456789abcdef"
PATH = "team/models"
SECRET = "registry-login"
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": bytes(range(256)) * (32 * MIB // 256),
    "model-00002-of-00002.safetensors": b"\x02" * (8 * MIB),
    "tokenizer/vocab.json": b'{"a": 0}',
}
HASHES = "cd /model && /bin/busybox find . -type f | /bin/busybox sort | /bin/busybox xargs /bin/busybox sha256sum"


@pytest.fixture(scope="module")
def kubectl(stack: Stack, docker: RegistryServer) -> Kubectl:
    """The default namespace, with the Secret to pull from the registry."""
    kubectl = stack.kubectl
    kubectl.apply(docker.pull_secret(SECRET))
    return kubectl


@pytest.fixture(scope="module")
def image(docker: RegistryServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The artifact as it was published: registry/repository@sha256:…"""
    folder = tmp_path_factory.mktemp("artifacts") / KEY
    files = []
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        files.append(ManifestFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    (folder / "manifest.json").write_bytes(
        encode(Manifest(key=KEY, step=Step.MERGE, recipe=1, inputs=(), files=tuple(files)))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLAIN_HTTP, docker.host)
        patch.setattr("ftm_jobs.registry.layers.FULL_LAYER_BYTES", 16 * MIB)
        with Registry(parse_repository(f"{docker.host}/{PATH}"), Login(USER, PASSWORD)) as client:
            report = publish_image(parse_source(folder.as_uri()), client)
    assert report.image
    return report.image


def pod(docker: RegistryServer, name: str, image: str, *, secret: str | None = SECRET) -> dict[str, Any]:
    """Returns a Pod that hashes every file of the mounted model."""
    oci = {"repository": f"{docker.host}/{PATH}", **({"secretName": secret} if secret else {})}
    artifacts = {"uri": "s3://artifacts/built", "oci": oci}
    model = parse(FineTunedModel, resource(artifacts=artifacts, serving={"loading": "Image"}))
    weights = ServedWeights("--artifact", SourceArgument("artifacts", "s3://artifacts/built", None), 1, image)
    container = {
        "name": "hashes",
        "image": PAUSE.name,
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sh", "-c", HASHES],
        "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
        "securityContext": {"runAsUser": 65532, "runAsNonRoot": True, "readOnlyRootFilesystem": True},
    }
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [model_volume(weights)]}
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": with_pull_secret(spec, model, weights)}


def hashes_seen(kubectl: Kubectl, name: str) -> dict[str, str]:
    """Returns the sha256 of each file that a Pod has seen, by its path."""
    kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=900s")
    rows = (line.split() for line in kubectl("logs", name).splitlines())
    return {path.removeprefix("./"): sha256 for sha256, path in rows}


def test_a_pod_sees_the_artifact_that_was_pushed_and_the_second_pulls_nothing(
    kubectl: Kubectl, docker: RegistryServer, image: str
) -> None:
    kubectl.apply(pod(docker, "first", image))
    seen = hashes_seen(kubectl, "first")
    assert {path: seen[path] for path in FILES} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }
    assert set(seen) == {*FILES, "manifest.json"}
    pulled = docker.requests("GET", f"/v2/{PATH}/blobs/")
    assert pulled > 0
    kubectl.apply(pod(docker, "second", image))
    assert hashes_seen(kubectl, "second") == seen
    assert docker.requests("GET", f"/v2/{PATH}/blobs/") == pulled
