"""Names what a merged model may be for beside writing text, in PEFT's words."""

from enum import StrEnum


class ClassifierTask(StrEnum):
    """The kinds of classifiers that PEFT trains on a language model, as task_type in adapter_config.json."""

    SEQUENCE = "SEQ_CLS"
    """A label for a whole text."""
    TOKEN = "TOKEN_CLS"
    """A label for each token."""
