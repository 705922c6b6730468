"""Checks that a base writes text one token after another, which is what both engines are here for."""

from ftm_jobs.contract.config import carried_config
from ftm_jobs.contract.config_fields import text_fields
from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.planning.rules.rejection import Rejection

HEADS_THAT_WRITE_NOTHING = (
    "ForMaskedLM",
    "ForMultipleChoice",
    "ForQuestionAnswering",
    "ForSequenceClassification",
    "ForTokenClassification",
)
"""Ends of names of transformers' classes."""


def writes_text(base: BaseFacts) -> Rejection | None:
    """The base is a decoder alone, with a head that predicts the next token."""
    named = base.architecture or base.model_type
    instead = "ftm merge makes the merged model, for another server"
    if text_fields(carried_config(base.config or {})).get("is_encoder_decoder") is True:
        return Rejection(
            "EncoderDecoder", f"{named} has an encoder and a decoder, which are not served here; {instead}"
        )
    if named.endswith(HEADS_THAT_WRITE_NOTHING):
        return Rejection("NoTextWritten", f"{named} does not write text, so it is not served here; {instead}")
    return None
