"""Renders conversations by a model's own chat template, as transformers renders it.

The template and the special tokens are read from the model's files; no tokenizer class is loaded, since the class
that a file names may be unknown to the libraries beside this. Templates come from strangers: they run in jinja2's
sandbox, which gives them no file, no network and no attribute of Python's.

transformers' render_jinja_template was tried. It tells templates today's date, so that equal inputs give other text
tomorrow, and transformers 4.51, which AutoAWQ needs, does not have it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.text.calibration import ChatMessage, Sample

TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
DEFAULT_TEMPLATE = "default"
TODAY = datetime(2024, 7, 26, tzinfo=UTC)
"""The date for templates that print one, so that equal inputs give equal text."""
_ASKS_FOR_THE_DATE = re.compile(r"\bstrftime_now\b")
_LLAMA_CPP_TELLS_THE_DATE = re.compile(r"\b(?:strftime_now|date_string|datetime)\b")
"""Finds the names by which llama-server tells templates the day's date, unasked: date_string for Llama 3.1's, which has
a date of its own where nobody tells it one, and datetime for FireFunction's. Source: llama.cpp, common/chat.cpp."""


class ChatTemplate:
    """Writes conversations as a model wants them."""

    def __init__(self, label: str, source: str, special_tokens: Mapping[str, str]) -> None:
        self._label = label
        self._tokens = dict(special_tokens)
        self._source = source
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_raise, strftime_now=TODAY.strftime)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidInput(
                Reason.INVALID_CONFIG, f"{label} has a chat template that cannot be read: {error}; correct it"
            ) from error

    def writes_the_date(self, *, by_llama_cpp: bool) -> bool:
        """Tells whether an engine that writes a conversation by this template may write the day's date into it."""
        dates = _LLAMA_CPP_TELLS_THE_DATE if by_llama_cpp else _ASKS_FOR_THE_DATE
        return dates.search(self._source) is not None

    def render(self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool = False) -> str:
        """Raises jinja2.TemplateError in the template's own words when it refuses the conversation."""
        told = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(messages=told, add_generation_prompt=add_generation_prompt, **self._tokens)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise jinja2.TemplateError(f"{type(error).__name__}: {error}") from error


def load_template(model: Path) -> ChatTemplate | None:
    """Returns the model's chat template; None when it has none. Raises InvalidInput for one that cannot be read."""
    config = _json(model / TOKENIZER_CONFIG_FILE)
    tokens = {name: text for name, value in config.items() if name.endswith("_token") and (text := _token(value))}
    beside = model / TEMPLATE_FILE
    if beside.is_file():
        return ChatTemplate(str(beside), _decode(beside), tokens)
    template, path = config.get("chat_template"), model / TOKENIZER_CONFIG_FILE
    if not template:
        path = model / OLD_TEMPLATE_FILE
        template = _json(path).get("chat_template")
    if isinstance(template, list):
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get(DEFAULT_TEMPLATE)
    return ChatTemplate(str(path), template, tokens) if isinstance(template, str) and template else None


def render(samples: Sequence[Sample], template: ChatTemplate | None) -> list[str]:
    """Returns each sample as text, in order.

    A model without a template sees a conversation's contents, a line each. Raises InvalidInput (InvalidCalibration)
    when the template refuses a conversation.
    """
    return [_rendered(sample, template) for sample in samples]


def _rendered(sample: Sample, template: ChatTemplate | None) -> str:
    if sample.text is not None:
        return sample.text
    if template is None:
        return "\n".join(message.content for message in sample.messages)
    try:
        return template.render(sample.messages)
    except jinja2.TemplateError as error:
        raise InvalidInput(
            Reason.INVALID_CALIBRATION,
            f"calibration {sample.where}: the model's chat template refuses the messages ({error}): "
            "correct their roles, or write the sample as text",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(_decode(path))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(Reason.INVALID_CONFIG, f"{path} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _decode(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(Reason.INVALID_CONFIG, f"{path} is not UTF-8: {error}") from error


def _token(value: Any) -> str:
    """Returns a special token's text: a tokenizer config holds it as it is, or as the content of an object."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Replaces jinja2's filter by transformers' own: jinja2's escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _Generation(jinja2.ext.Extension):
    """Renders the body of {% generation %} … {% endgeneration %}, by which templates mark the model's own words."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
