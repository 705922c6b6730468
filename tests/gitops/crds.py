"""Waits for CustomResourceDefinitions that were just applied."""

from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually


def await_established(kubectl: Kubectl, *names: str) -> None:
    """`kubectl wait` fails on one that has no conditions yet."""
    eventually(f"CRDs {names}", lambda: all(_is_established(kubectl, name) for name in names))


def _is_established(kubectl: Kubectl, name: str) -> bool:
    conditions = kubectl.get("crd", name).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
