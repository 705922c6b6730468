"""Builds images with buildah and carries them to the node's containerd; each only when its inputs have changed.

An image's inputs are the stages that it is made from, the files that they copy, its parameters and its base's inputs.
Built images lie in an OCI layout in the cache; a node receives the blobs that its store lacks, so a change of the
project's code moves kilobytes although the image below it has gigabytes.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from tests.cache import cache
from tests.cluster.buildah import Buildah
from tests.cluster.containerd import Containerd
from tests.cluster.containerfile import stages_of
from tests.cluster.locks import alone
from tests.cluster.progress import step

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Image:
    """An image and its makings. `context` fills a folder to build in; without it that is the repository."""

    name: str
    containerfile: Path
    base: "Image | None" = None
    target: str | None = None
    """The stage to stop at; the last one unless given."""
    context: Callable[[Path], None] | None = None
    depends_on: tuple[str, ...] = ()
    """Files of this machine that the context is made from."""
    parameters: tuple[str, ...] = ()
    stages: Mapping[str, Callable[[Path], bool]] = field(default_factory=dict)
    """Stages whose result this machine may have: what fills a folder with it, and says whether it could."""

    def inputs(self) -> str:
        """Returns a digest of everything that decides what the image holds."""
        digest = hashlib.sha256()
        for part in (self.name, self.base.inputs() if self.base else "", self.target or "", *self.parameters):
            digest.update(part.encode() + b"\0")
        for stage in stages_of(self.containerfile, self.target):
            digest.update("\0".join((stage.name, stage.base, *stage.instructions, "")).encode())
        for path in (*map(Path, self.depends_on), *self._copied()):
            name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            digest.update(f"{name}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def copies(self) -> tuple[str, ...]:
        """Returns the files and folders of the repository that the image's stages copy."""
        if self.context:
            return ()
        return tuple(source for stage in stages_of(self.containerfile, self.target) for source in stage.sources)

    def _copied(self) -> Iterator[Path]:
        for entry in self.copies():
            path = ROOT / entry
            found = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (one for one in found if not one.is_dir() and "__pycache__" not in one.parts)


class ImageStore:
    """Images as last built: which inputs each was made from, and its manifest's digest in the layout."""

    def __init__(self) -> None:
        self._folder = cache("images")
        self._layout = self._folder / "layout"
        self._record = self._folder / "built.json"
        self._buildah = Buildah(cache("buildah"))

    def build(self, images: Sequence[Image]) -> None:
        """Build what has changed and put it into the layout."""
        with alone("images", "another build of images to end"):
            self._build_changed(images)

    def load(self, images: Sequence[Image], containerd: Containerd) -> None:
        """Import into a node what its store does not have."""
        with alone("images", "a build of images to end"):
            self._load_missing(images, containerd)

    def _build_changed(self, images: Sequence[Image]) -> None:
        built = self._read()
        for image in images:
            inputs = image.inputs()
            if built.get(image.name, {}).get("inputs") == inputs and self._blob(built[image.name]["digest"]).exists():
                continue
            self._build(image)
            with step(f"storing {image.name}"):
                self._layout.mkdir(parents=True, exist_ok=True)
                digest = self._buildah.push(image.name, self._layout)
            built[image.name] = {"inputs": inputs, "digest": digest}
            self._write(built)
        self._forget_unused(built)

    def _load_missing(self, images: Sequence[Image], containerd: Containerd) -> None:
        built, present = self._read(), containerd.images()
        for image in images:
            digest = built[image.name]["digest"]
            if present.get(image.name) == digest:
                continue
            with step(f"importing {image.name}"):
                try:
                    containerd.import_archive(partial(self._pack, image.name, digest))
                except RuntimeError:
                    containerd.import_archive(partial(self._pack, image.name, digest, whole=True))
            self._share_blobs(digest)
        current = {entry["digest"] for entry in built.values()}
        containerd.remove_images([name for name, digest in containerd.images().items() if digest not in current])

    def _build(self, image: Image) -> None:
        if image.base:
            self._have(image.base)
        with step(f"building {image.name}"), tempfile.TemporaryDirectory(dir=cache()) as temporary:
            context, lent = ROOT, Path(temporary, "stages")
            if image.context:
                context = Path(temporary)
                image.context(context)
            self._buildah.build(
                image.name,
                image.containerfile,
                context,
                base=image.base.name if image.base else None,
                target=image.target,
                label=image.inputs(),
                stages={name: lent / name for name, fill in image.stages.items() if fill(lent / name)},
            )

    def _have(self, image: Image) -> None:
        """Have a base image of the right inputs in buildah's own store; bases are not put into the layout."""
        if self._buildah.label(image.name) != image.inputs():
            self._build(image)

    def _pack(self, name: str, digest: str, stream: IO[bytes], whole: bool = False) -> None:
        """Write an OCI archive of one image, without the layers that containerd has already unless `whole`.

        A layer that nothing refers to (an import was cut short) may be collected before it is used: hence `whole`.
        """
        manifest = self._manifest(digest)
        layers = [layer["digest"] for layer in manifest["layers"]]
        lacking = layers if whole else [layer for layer in layers if not _in_containerd(layer).exists()]
        descriptor = {
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": self._blob(digest).stat().st_size,
            "annotations": {"io.containerd.image.name": name},
        }
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            _add_json(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
            _add_json(tar, "index.json", {"schemaVersion": 2, "manifests": [descriptor]})
            for blob in (digest, manifest["config"]["digest"], *lacking):
                tar.add(self._blob(blob), arcname=f"blobs/sha256/{blob.removeprefix('sha256:')}")

    def _share_blobs(self, digest: str) -> None:
        """Keep one copy of each layer: the layout's file becomes a link to containerd's, which never changes."""
        for layer in self._manifest(digest)["layers"]:
            theirs, ours = _in_containerd(layer["digest"]), self._blob(layer["digest"])
            with suppress(OSError):
                aside = ours.with_suffix(".link")
                os.link(theirs, aside)
                aside.replace(ours)

    def _forget_unused(self, built: dict[str, dict[str, str]]) -> None:
        kept: set[str] = set()
        for entry in built.values():
            if self._blob(entry["digest"]).exists():
                manifest = self._manifest(entry["digest"])
                kept |= {entry["digest"], manifest["config"]["digest"], *(x["digest"] for x in manifest["layers"])}
        for blob in (self._layout / "blobs/sha256").glob("*"):
            if f"sha256:{blob.name}" not in kept:
                blob.unlink()

    def _manifest(self, digest: str) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self._blob(digest).read_text())
        return manifest

    def _blob(self, digest: str) -> Path:
        return self._layout / "blobs/sha256" / digest.removeprefix("sha256:")

    def _read(self) -> dict[str, dict[str, str]]:
        if not self._record.exists():
            return {}
        built: dict[str, dict[str, str]] = json.loads(self._record.read_text())
        return built

    def _write(self, built: dict[str, dict[str, str]]) -> None:
        aside = self._record.with_suffix(".new")
        aside.write_text(json.dumps(built, indent=1))
        aside.replace(self._record)


def _add_json(tar: tarfile.TarFile, name: str, value: dict[str, object]) -> None:
    content = json.dumps(value).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _in_containerd(digest: str) -> Path:
    content = cache("containerd", "io.containerd.content.v1.content")
    return content / "blobs/sha256" / digest.removeprefix("sha256:")
