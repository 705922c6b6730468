"""llama.cpp's programs for tests, the demo and `ftm run`: built once from the pinned source, kept in the user's cache.

    make llama-cpp        or: python -m tests.llama_cpp

The folder's name is a digest of the source's pin and of the script that builds it; `current` points to the last one,
where ftm_jobs.quantize.gguf.llama_cpp finds it, and so does `import llama_cpp` in the environment that this ran in.
Needs cmake and a C++ compiler, and on two cores some eight minutes, once.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.cache import cache

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "images/llama.cpp/build.sh"
PIN = ROOT / "requirements/llama-cpp.txt"
PROGRAMS = ("cmake", "make", "g++")


def say(line: str) -> None:
    print(f"llama.cpp: {line}", file=sys.stderr, flush=True)


def prepare(say: Callable[[str], None] = say) -> Path:
    """The folder with bin, convert and python, built now if need be. Raises RuntimeError."""
    digest = hashlib.sha256(BUILD.read_bytes() + PIN.read_bytes()).hexdigest()[:16]
    ready = cache("llama.cpp", digest)
    if not ready.is_dir():
        ready.parent.mkdir(parents=True, exist_ok=True)
        with ready.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.is_dir():
                _build(ready, say)
    current = ready.with_name("current")
    if not current.is_symlink() or current.readlink() != Path(ready.name):
        aside = ready.with_name(f".current.{os.getpid()}")
        aside.symlink_to(ready.name)
        aside.replace(current)
    _make_importable(current / "python")
    return ready


def _make_importable(package: Path) -> None:
    """Let this environment import llama_cpp, of the build that is current."""
    line = Path(sysconfig.get_path("purelib"), "llama_cpp.pth")
    if sys.prefix != sys.base_prefix and (not line.exists() or line.read_text() != f"{package}\n"):
        line.write_text(f"{package}\n")


def _build(ready: Path, say: Callable[[str], None]) -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise RuntimeError(f"llama.cpp cannot be built without {', '.join(missing)}: install cmake, make and g++")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=ready.parent) as temporary:
        say("fetching its source …")
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=llama-cpp-python"]
        _succeed([*download, "--require-hashes", "-d", temporary, "-r", str(PIN)])
        (source,) = Path(temporary).glob("*.tar.gz")
        say("building it (once, some eight minutes on two cores) …")
        aside = Path(temporary, "built")
        _succeed(["nice", "-n", "10", str(BUILD), str(source), str(aside), str(len(os.sched_getaffinity(0)))])
        aside.replace(ready)
    say(f"ready in {ready} after {time.monotonic() - started:.0f} s")


def _succeed(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")


if __name__ == "__main__":
    print(prepare())
