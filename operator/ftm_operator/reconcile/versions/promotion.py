"""Reads what the annotation ftm.dev/promote asks for, which users write and the operator only follows. Pure."""

from ftm_operator.api.v1alpha1 import PROMOTE_ANNOTATION, CanaryProgress, FineTunedModel


def promotion(model: FineTunedModel, key: str) -> str | None:
    """Returns the value of the annotation, if it is about the version of this key."""
    value = model.metadata.annotations.get(PROMOTE_ANNOTATION)
    return value if value is not None and value.partition("/")[0] == key else None


def takes_all(own: CanaryProgress, value: str | None) -> bool:
    """Tells whether the canary is to take all requests at once."""
    return value is not None and value != own.promoted and not value.partition("/")[2].isdigit()


def goes_on(own: CanaryProgress, value: str | None) -> bool:
    """Tells whether the canary is to go on from the step that it is in."""
    return value is not None and value != own.promoted and value.partition("/")[2] == str(own.step)
