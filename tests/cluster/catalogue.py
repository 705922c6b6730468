"""Lists the images that the test cluster knows: the project's own, on a local base, and those that only tests need."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests import llama_cpp
from tests.cluster.images import ROOT, Image

OWN = ROOT / "images/Containerfile"
FOR_TESTS = ROOT / "tests/cluster/images"
SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "libgomp1", "libnuma1", "python3-minimal", "python3-venv")
BUSYBOX = Path("/usr/bin/busybox")


def busybox(context: Path) -> None:
    shutil.copy(BUSYBOX, context / "busybox")


def debian(context: Path) -> None:
    """A root file system with Python, from the Debian mirror that this machine uses."""
    rootfs = context / "rootfs"
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(BASE_PACKAGES)}",
        SUITE,
        str(rootfs),
        *_mirror(),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout.strip()[-2000:]}")
    for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(rootfs / path, ignore_errors=True)
    tar = [
        "tar",
        "--create",
        "--numeric-owner",
        "--one-file-system",
        "--exclude=./dev/*",
        f"--file={context}/rootfs.tar",
    ]
    subprocess.run([*tar, f"--directory={rootfs}", "."], check=True)
    shutil.rmtree(rootfs)


def compiled(folder: Path) -> bool:
    """llama.cpp as this machine has compiled it for itself, if it runs the system that the images have."""
    if f"VERSION_CODENAME={SUITE}" not in Path("/etc/os-release").read_text().splitlines():
        return False
    shutil.copytree(llama_cpp.prepare(), folder / "opt/llama.cpp", symlinks=True)
    return True


def _mirror() -> list[str]:
    """The first configured archive that has the suite; nothing where apt cannot say, for debootstrap's own default."""
    wanted = ["Created-By: Packages", f"Codename: {SUITE}", "Origin: Debian"]
    done = subprocess.run(["apt-get", "indextargets", "--format=$(REPO_URI)", *wanted], capture_output=True, text=True)
    return done.stdout.split()[:1]


PAUSE = Image("localhost/pause:test", FOR_TESTS / "pause/Containerfile", context=busybox, depends_on=(str(BUSYBOX),))
BASE = Image(
    "localhost/python:3.11",
    FOR_TESTS / "base/Containerfile",
    context=debian,
    parameters=(SUITE, *BASE_PACKAGES),
)


def own(name: str, target: str, **more: Any) -> Image:
    """Returns an image of the project, a target of its one Containerfile."""
    return Image(f"localhost/{name}", OWN, base=BASE, target=target, **more)


OPERATOR = own("ftm-operator:test", "operator")
JOBS = own("ftm-jobs:test", "jobs")
MERGE_REQUIREMENTS = own("ftm-merge:requirements", "merge-requirements")
MERGE = own("ftm-merge:test", "merge")
VLLM_CPU = Image("localhost/vllm-cpu:test", FOR_TESTS / "vllm-cpu/Containerfile", base=MERGE_REQUIREMENTS)
SERVE_LLAMACPP = own("ftm-serve-llamacpp:test", "serve-llamacpp", stages={"llama.cpp": compiled})
QUANTIZE_GGUF = own("ftm-quantize-gguf:test", "quantize-gguf", stages={"llama.cpp": compiled})
GGUF = (SERVE_LLAMACPP, QUANTIZE_GGUF)
QUANTIZE_AWQ = own("ftm-quantize-awq:test", "quantize-awq")
QUANTIZE_COMPRESSOR = own("ftm-quantize-compressor:test", "quantize-compressor")
PROJECT = (OPERATOR, JOBS, MERGE, *GGUF, VLLM_CPU)
"""The images that the operator runs, and runs in."""
