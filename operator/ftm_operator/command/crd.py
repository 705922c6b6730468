"""Prints the CustomResourceDefinitions: `ftm crd`."""

from ftm_operator.api.crd import crds_yaml


def crd() -> None:
    """Print the CustomResourceDefinitions."""
    print(crds_yaml(), end="")
