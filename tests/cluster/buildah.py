"""Calls buildah and skopeo, with an image store in the user's cache: other images are neither seen nor touched.

While it builds, the machine's pip configuration and certificate authorities are lent to the build, read-only, so that
a build reaches the same package index as the machine does; they do not end up in the image.
"""

import os
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INPUTS_LABEL = "dev.ftm.inputs"
OWN_MOUNTS = ("unshare", "--mount", "--")
"""The store's mounts end with the command that needed them; buildah by itself leaves one behind."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Buildah:
    """buildah with its store in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = ("--storage-driver=overlay", f"--root={folder}/root", f"--runroot={folder}/run")

    def build(
        self,
        name: str,
        containerfile: Path,
        context: Path,
        *,
        base: str | None,
        target: str | None,
        label: str,
        stages: Mapping[str, Path],
    ) -> None:
        """Build and tag an image; instructions whose inputs have not changed are not run again.

        `stages` are folders that stand for what stages of that name would have made.
        """
        options = ["--isolation=chroot", "--layers", f"--tag={name}", f"--label={INPUTS_LABEL}={label}"]
        options += [f"--volume={ours}:{theirs}:ro" for ours, theirs in _lent()]
        options += [f"--build-arg=BASE={base}", "--pull-never"] if base else []
        options += [f"--target={target}"] if target else []
        options += [f"--build-context={name}={folder}" for name, folder in stages.items()]
        self._run("build", *options, f"--file={containerfile}", str(context))
        self._run("rm", "--all")  # what a killed build left would keep its image from being removed
        self._run("rmi", "--prune")

    def label(self, name: str) -> str | None:
        """The label that `build` gave an image; None when there is no such image."""
        template = f'{{{{index .OCIv1.Config.Labels "{INPUTS_LABEL}"}}}}'
        inspect = self._command(["inspect", "--type=image", f"--format={template}", name])
        done = subprocess.run(inspect, capture_output=True, text=True)
        return None if done.returncode else done.stdout.strip()

    def push(self, name: str, layout: Path) -> str:
        """Write an image into an OCI layout and return its manifest's digest.

        Layers stay uncompressed, so that they keep the digests by which they are known here: a layer that the layout
        has already is not written again.
        """
        digest = self._folder / "pushed-digest"
        source = f"containers-storage:[overlay@{self._folder}/root+{self._folder}/run]{name}"
        copy = [*OWN_MOUNTS, "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers"]
        _succeed([*copy, f"--digestfile={digest}", source, f"oci:{layout}:{name}"])
        return digest.read_text().strip()

    def _run(self, *arguments: str) -> None:
        _succeed(self._command(arguments))

    def _command(self, arguments: Sequence[str]) -> list[str]:
        command, *rest = arguments
        return [*OWN_MOUNTS, "buildah", *self._storage, command, *rest]


def _succeed(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise RuntimeError(f"{' '.join(command)} failed:\n{output[-3000:]}")


def _lent() -> list[tuple[str, str]]:
    """Files of this machine and where a build sees them."""
    shown = subprocess.run([sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True).stdout
    files = [line.split(", exists:")[0].strip() for line in shown.splitlines() if line.endswith("exists: True")]
    lent = [(path, "/etc/pip.conf") for path in files[-1:]]
    authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if authorities and Path(authorities).exists():
        lent.append((authorities, CERTIFICATES))
    return lent
