"""Calls buildah, with its own image store in the user's cache: this user's other images are neither seen nor touched.

While it builds, the machine's pip configuration and certificate authorities are lent to the build, read-only, so that
a build reaches the same package index as the machine does; they do not end up in the image.
"""

import os
import ssl
import subprocess
import sys
from pathlib import Path

from tests.cluster.unavailable import Unavailable

INPUTS_LABEL = "dev.ftm.inputs"
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
    ) -> None:
        """Build and tag an image; instructions whose inputs have not changed are not run again."""
        options = ["--isolation=chroot", "--layers", f"--tag={name}", f"--label={INPUTS_LABEL}={label}"]
        options += [f"--volume={ours}:{theirs}:ro" for ours, theirs in _lent()]
        options += [f"--build-arg=BASE={base}", "--pull-never"] if base else []
        options += [f"--target={target}"] if target else []
        self._run("build", *options, f"--file={containerfile}", str(context))
        self._run("rmi", "--prune")

    def label(self, name: str) -> str | None:
        """The label that `build` gave an image; None when there is no such image."""
        template = f'{{{{index .OCIv1.Config.Labels "{INPUTS_LABEL}"}}}}'
        done = self._call("inspect", "--type=image", f"--format={template}", name)
        return None if done.returncode else done.stdout.strip()

    def push(self, name: str, layout: Path) -> str:
        """Write an image into an OCI layout, uncompressed, and return its manifest's digest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        digest = self._folder / "pushed-digest"
        options = ("--disable-compression", "--format=oci", f"--digestfile={digest}", "--quiet")
        self._run("push", *options, name, f"oci:{layout}:{name}")
        return digest.read_text().strip()

    def _run(self, *arguments: str) -> None:
        done = self._call(*arguments)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()
            raise Unavailable(f"buildah {' '.join(arguments)} failed:\n{output[-3000:]}")

    def _call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command, *rest = arguments
        return subprocess.run(["buildah", *self._storage, command, *rest], capture_output=True, text=True)


def _lent() -> list[tuple[str, str]]:
    """Files of this machine and where a build sees them."""
    shown = subprocess.run([sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True).stdout
    files = [line.split(", exists:")[0].strip() for line in shown.splitlines() if line.endswith("exists: True")]
    lent = [(path, "/etc/pip.conf") for path in files[-1:]]
    authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if authorities and Path(authorities).exists():
        lent.append((authorities, CERTIFICATES))
    return lent
