"""Writes the documents of a plain OCI image: configs, manifests, and the index by whose digest it is used.

containerd mounts images, not artifacts of other types, and takes an image only if it is made for its node's platform:
so one image of the same layers is made for each platform, and an index names them all. The same layers and annotations
give the same bytes. Source: opencontainers/image-spec, config.md, manifest.md, image-index.md.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = ("amd64", "arm64")


@dataclass(frozen=True)
class Document:
    """A blob or a manifest, as it is stored."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def descriptor(self) -> dict[str, Any]:
        return descriptor(self.media_type, self.digest, len(self.content))


@dataclass(frozen=True)
class Image:
    """The documents of an image, beside its layers."""

    configs: tuple[Document, ...]
    manifests: tuple[Document, ...]
    index: Document


def descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    """Returns how a document names another."""
    return {"mediaType": media_type, "digest": digest, "size": size}


def image(layers: Sequence[Mapping[str, Any]], annotations: Mapping[str, str]) -> Image:
    """Returns the image of layers that are not compressed, given by their descriptors."""
    configs, manifests, entries = [], [], []
    for architecture in ARCHITECTURES:
        platform = {"architecture": architecture, "os": "linux"}
        diffs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
        config = _document(CONFIG, {**platform, "config": {}, "rootfs": diffs})
        content = {"config": config.descriptor(), "layers": list(layers), "annotations": dict(annotations)}
        manifest = _document(MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, **content})
        configs.append(config)
        manifests.append(manifest)
        entries.append({**manifest.descriptor(), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, "annotations": dict(annotations)}
    return Image(tuple(configs), tuple(manifests), _document(INDEX, index))


def _document(media_type: str, content: Mapping[str, Any]) -> Document:
    return Document(media_type, json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
