"""Checks that a base's config.json says what sizing needs; what inspects and merges needs less."""

from ftm_jobs.contract.config import UnreadableConfig
from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.rules.rejection import Rejection


def complete_config(base: BaseFacts) -> Rejection | None:
    """The facts have every number that memory and layouts are worked out from."""
    try:
        architecture(base)
    except UnreadableConfig as error:
        return Rejection("IncompleteConfig", f"config.json of {base.uri} {error}")
    return None
