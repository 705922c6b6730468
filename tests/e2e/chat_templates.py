"""Chat templates with which an engine is wrong, given to it by a flag."""

from pathlib import Path

from transformers import AutoTokenizer

OTHER_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }} {% endfor %}"
"""Writes every conversation otherwise."""
_REFUSED = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('it ends in an answer') }}{% endif %}"


def refusing(model: Path) -> str:
    """Returns a model's own template, which refuses conversations that end with the assistant's words."""
    return f"{_REFUSED}{AutoTokenizer.from_pretrained(model).chat_template}"
