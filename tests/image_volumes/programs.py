"""containerd 2, which mounts image volumes; Debian's containerd is older."""

from pathlib import Path

from tests.cache import cache
from tests.cluster.go_programs import GoProgram

SOURCES = Path(__file__).parent / "containerd"
NAMES = ("containerd", "containerd-shim-runc-v2", "ctr")
PROGRAMS = [
    GoProgram(
        f"{name}-2",
        SOURCES,
        takes="2 to 5 minutes",
        package=f"github.com/containerd/containerd/v2/cmd/{name}",
    )
    for name in NAMES
]


def containerd_folder() -> Path:
    """Returns a folder with containerd's programs under their own names, built on first use."""
    folder = cache("containerd-2-programs")
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in zip(NAMES, PROGRAMS, strict=True):
        link, built = folder / name, program.built()
        link.unlink(missing_ok=True)
        link.symlink_to(built)
    return folder
