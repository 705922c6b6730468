"""Reads a step's report from the termination message that its container left. Pure."""

from pydantic import ValidationError

from ftm_jobs.contract.report import Report
from ftm_operator.resources.metadata import Manifest


def report_in(terminated: Manifest) -> Report | None:
    """Returns the report in a container's terminated state; None when it left none, or another program's words."""
    message = terminated.get("message")
    if not message:
        return None
    try:
        return Report.model_validate_json(message)
    except ValidationError:
        return None
