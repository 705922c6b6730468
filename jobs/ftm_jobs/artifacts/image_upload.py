"""Publishes an artifact to a registry as a plain OCI image, its manifest among its files.

Every file is proven by its sha256 while its layer's digest is computed, before a byte is sent. The registry keeps a
layer under its digest, so a second run sends only what is missing, and the same artifact has the same image wherever
it is published. Nodes prove the layers by the image's digest once more.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from ftm_jobs.artifacts.fetch import open_artifact
from ftm_jobs.artifacts.manifest import corrupt
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.manifest import MANIFEST_NAME, Artifact, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Reason
from ftm_jobs.registry.client import Registry
from ftm_jobs.registry.image import INDEX, LAYER, Document, Image, descriptor, image
from ftm_jobs.registry.layers import Layer, layers
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Store, open_store
from ftm_jobs.stores.source import Source

LAYERS_AT_ONCE = 3
READERS_PER_LAYER = 4
BLOCKS_PER_LAYER = 6
ARTIFACT_ANNOTATION = "dev.ftm.artifact"
MANIFEST_ANNOTATION = "dev.ftm.manifest"


def publish_image(source: Source, registry: Registry) -> Report:
    """Pushes the artifact. Raises InvalidInput and Failed, as the store and the registry do."""
    store = open_store(source)
    manifest, text, artifact = open_artifact(store, source)
    laid_out = layers(_files(manifest, text))
    progress = Progress("publish", 2 * sum(layer.size for layer in laid_out))
    push = partial(_push_layer, store, registry, progress)
    pushed = list(in_order(push, laid_out, threads=LAYERS_AT_ONCE, ahead=LAYERS_AT_ONCE))
    progress.close()
    annotations = {ARTIFACT_ANNOTATION: artifact.key, MANIFEST_ANNOTATION: artifact.digest}
    made = image([layer for layer, _ in pushed], annotations)
    already = _push_documents(registry, made, artifact.key)
    return _report(registry, artifact, made, [is_new for _, is_new in pushed], already=already)


def _files(manifest: Manifest, text: bytes) -> list[ManifestFile]:
    """Returns the artifact's files, its manifest among them."""
    own = ManifestFile(path=MANIFEST_NAME, size=len(text), sha256=hashlib.sha256(text).hexdigest())
    return [*manifest.files, own]


def _push_layer(store: Store, registry: Registry, progress: Progress, layer: Layer) -> tuple[dict[str, Any], bool]:
    """Returns the layer's descriptor, and whether it was pushed now."""
    digest = hashlib.sha256()
    for block in layer.blocks(partial(_proven, store)):
        digest.update(block)
        progress.add(len(block))
    name = f"sha256:{digest.hexdigest()}"
    described = descriptor(LAYER, name, layer.size)
    if registry.has_blob(name):
        progress.add(layer.size)
        return described, False
    sent = 0

    def content() -> Iterator[bytes]:
        nonlocal sent
        progress.add(-sent)
        sent = 0
        for block in layer.blocks(partial(_read, store)):
            sent += len(block)
            progress.add(len(block))
            yield bytes(block)

    registry.push_blob(name, layer.size, content)
    return described, True


def _read(store: Store, file: ManifestFile) -> Iterator[bytearray]:
    """Yields the file's bytes, some blocks read ahead."""

    def read(offset: int) -> bytearray:
        return store.read(file.path, offset, min(store.block_bytes, file.size - offset))

    offsets = range(0, file.size, store.block_bytes)
    yield from in_order(read, offsets, threads=READERS_PER_LAYER, ahead=BLOCKS_PER_LAYER)


def _proven(store: Store, file: ManifestFile) -> Iterator[bytearray]:
    """Yields the file's bytes. Raises InvalidInput (CorruptArtifact) at their end where they have another sha256."""
    digest = hashlib.sha256()
    for block in _read(store, file):
        digest.update(block)
        yield block
    if digest.hexdigest() != file.sha256:
        raise corrupt(store.describe(file.path), f"has sha256 {digest.hexdigest()}, not {file.sha256}")


def _push_documents(registry: Registry, made: Image, tag: str) -> bool:
    """Pushes what names the layers, the tag last; returns whether the tag stood for this image already."""
    if registry.digest_of(tag, INDEX) == made.index.digest:
        return True
    for config in made.configs:
        if not registry.has_blob(config.digest):
            registry.push_blob(config.digest, len(config.content), partial(_content, config))
    for manifest in made.manifests:
        registry.push_manifest(manifest, manifest.digest)
    registry.push_manifest(made.index, tag)
    return False


def _content(document: Document) -> Iterator[bytes]:
    yield document.content


def _report(registry: Registry, artifact: Artifact, made: Image, pushed: list[bool], *, already: bool) -> Report:
    name = f"{registry.repository.name}@{made.index.digest}"
    count = f"{len(pushed)} layer{'' if len(pushed) == 1 else 's'}"
    size = format_bytes(artifact.total_bytes)
    done = "it was there already" if already else f"{sum(pushed)} of them pushed"
    return Report(
        step=Step.PUBLISH,
        outcome=Outcome.DONE,
        reason=Reason.ALREADY_PUBLISHED if already else Reason.PUBLISHED,
        message=f"{name} holds {artifact.uri}: {count}, {size}; {done}",
        image=name,
        reused=already,
    )
