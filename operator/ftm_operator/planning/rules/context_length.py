"""Checks the context that is asked for against the model's own limit."""

from ftm_operator.planning.rules.rejection import Rejection


def context_length(asked: int | None, limit: int) -> Rejection | None:
    """The context is within the model's limit, in tokens. Source: config/model.py, _get_and_verify_max_len."""
    if asked and asked > limit:
        return Rejection(
            "ContextLength",
            f"spec.serving.maxModelLen {asked} exceeds the model's limit of {limit} tokens; ask for at most that",
        )
    return None
