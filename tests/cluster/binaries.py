"""Finds or builds the cluster's own programs, and calls each.

1. KUBEBUILDER_ASSETS: a folder with etcd and kube-apiserver (and the others, when there);
2. else one program that holds them all, built by Go from kubernetes/.

An existing cluster (KUBECONFIG and FTM_TEST_CLUSTER=existing) needs none; tests/cluster/conftest.py sees to that.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.cluster.go_programs import GoProgram
from tests.cluster.unavailable import Unavailable

SOURCES = Path(__file__).parent / "kubernetes"
CONTROL_PLANE = ("etcd", "kube-apiserver")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy")
KUBERNETES = GoProgram("kubernetes", SOURCES, takes="5 to 10 minutes")


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
    major, minor, patch = KUBERNETES.version_of(r"k8s\.io/kubernetes v([\d.]+)").split(".")
    package = "k8s.io/component-base/version"
    version = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    flags = [f"-X {package}.{name}={value}" for name, value in version.items()]
    return replace(KUBERNETES, linker_flags=flags).built()
