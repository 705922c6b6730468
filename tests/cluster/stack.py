"""Everything that a FineTunedModel needs to be served: a cluster with a node, S3 with base and adapter, the operator.

    with stack() as running:
        running.kubectl("apply", "-f", "examples/cluster.yaml")

`make cluster` holds one open for a person; the end-to-end test uses the same one, or its parts.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.assets import Assets
from tests.assets import prepare as prepare_assets
from tests.cache import cache
from tests.cluster.catalogue import (
    JOBS,
    MERGE,
    OPERATOR,
    PROJECT,
    QUANTIZE_AWQ,
    QUANTIZE_GGUF,
    SERVE_LLAMACPP,
    VLLM_CPU,
)
from tests.cluster.cluster import NodeCluster, node_cluster, prepare
from tests.cluster.containerd import ContainerdPrograms
from tests.cluster.helm import helm
from tests.cluster.images import ROOT, Image
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.progress import say, step
from tests.servers.seaweedfs import MODELS, READER, WRITER, Server, seaweedfs

CHART = ROOT / "charts" / "ftm-operator"
RELEASE, OPERATOR_NAMESPACE = "ftm-operator", "ftm-system"
MODELS_SECRET, ARTIFACTS_SECRET = "models-s3", "artifacts-s3"
BASE_URI, ADAPTER_URI = "s3://models/base/smollm2-135m-instruct", "s3://models/adapters/support"
ARTIFACTS_URI = "s3://artifacts/built"
GPUS = 8


@dataclass(frozen=True)
class Stack:
    """A cluster, its S3 server, and what is in it. examples/cluster.yaml can be applied as it is."""

    cluster: NodeCluster
    s3: Server
    assets: Assets

    @property
    def kubectl(self) -> Kubectl:
        return self.cluster.kubectl

    def give_secrets(self, namespace: str) -> None:
        """Put the credentials for both buckets into a namespace, which is made when it is not there."""
        kubectl = self.kubectl.within(namespace)
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        kubectl.apply(
            secret(MODELS_SECRET, self.s3.secret(READER)),
            secret(ARTIFACTS_SECRET, self.s3.secret(WRITER)),
        )

    def install(self, values: Sequence[str] = ()) -> None:
        """Install the operator by its chart, with the images built here; `values` are more of helm's --set."""
        with step("installing the operator with helm"):
            where = ["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "15m"]
            chosen = [word for value in (*image_values(), *values) for word in ("--set", value)]
            helm("upgrade", "--install", RELEASE, str(CHART), *where, *chosen, kubeconfig=self.cluster.kubeconfig)


@contextmanager
def stack(
    *, installed: bool = True, more: Sequence[Image] = (), containerd: ContainerdPrograms | None = None
) -> Iterator[Stack]:
    """All of it, ready to use; without `installed` the operator is left for the caller to install.

    `more`: images that few need, beside those of PROJECT. `containerd`: the node's, in the place of Debian's.

    Raises Unavailable when the machine cannot run a node.
    """
    images = (*PROJECT, *more)
    prepare(images)
    assets = prepare_assets(say)
    with ExitStack() as ends:
        cluster = ends.enter_context(node_cluster(images, containerd))
        cluster.fake_gpus(GPUS)
        with step("starting S3 with a base model and an adapter in it"):
            s3 = ends.enter_context(seaweedfs(cache("node", "s3"), address=cluster.host_address))
            for uri, folder in ((BASE_URI, assets.base), (ADAPTER_URI, assets.adapter)):
                s3.upload(MODELS, uri.removeprefix(f"s3://{MODELS}/"), folder)
        running = Stack(cluster, s3, assets)
        running.give_secrets("default")
        if installed:
            running.install()
        yield running


def image_values() -> list[str]:
    """helm's --set arguments that put this tree's images in the place of the released ones."""
    images = {
        "operator": OPERATOR,
        "jobs": JOBS,
        "merge": MERGE,
        "quantizeGguf": QUANTIZE_GGUF,
        "quantizeAwq": QUANTIZE_AWQ,
        "serveLlamacpp": SERVE_LLAMACPP,
        "vllm": VLLM_CPU,
    }
    parts = {key: image.name.rpartition(":") for key, image in images.items()}
    return [
        *(f"images.{key}.repository={repository}" for key, (repository, _, _) in parts.items()),
        *(f"images.{key}.tag={tag}" for key, (_, _, tag) in parts.items()),
        "imagePullPolicy=Never",
    ]


def secret(name: str, data: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
