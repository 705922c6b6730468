"""Prints the CustomResourceDefinition: `ftm crd`."""

from ftm_operator.api.crd import crd_yaml


def crd() -> None:
    """Print the CustomResourceDefinition."""
    print(crd_yaml(), end="")
