"""Reads the text that a quantizer is fitted to and its result is measured on: JSONL from a store, or a bundled set.

Each line is {"text": "…"} or {"messages": [{"role": "user", "content": "…"}, …]}. The last quarter of the samples is
the hold-out: nothing is quantized with it, so that what is measured on it was not fitted to it. Nothing is downloaded
but the file that was named. Messages become text in chat.py. Imports no torch.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, NoReturn

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.caller import take_the_new_one
from ftm_jobs.stores import open_store
from ftm_jobs.stores.source import Source

BUNDLED_FILE = "calibration.jsonl"
SUFFIX = ".jsonl"
LARGEST_BYTES = 64 * 1024 * 1024
SMALLEST_SAMPLES = 4
"""A quarter of fewer is not one whole sample."""
FORM = '{"text": "…"} or {"messages": [{"role": "user", "content": "…"}]}'


@dataclass(frozen=True)
class ChatMessage:
    role: str
    content: str


@dataclass(frozen=True)
class Sample:
    where: str
    """The file and the line, for sentences."""
    text: str | None = None
    messages: tuple[ChatMessage, ...] = ()
    """A conversation, where there is no text."""


@dataclass(frozen=True)
class CalibrationText:
    samples: tuple[Sample, ...]
    digest: str
    """`sha256:…` of the file's bytes."""
    uri: str | None = None
    """URI of the file; None for the bundled set."""

    @property
    def fitted(self) -> tuple[Sample, ...]:
        """Returns the samples that a quantizer may look at: all but the last quarter."""
        return self.samples[: len(self.samples) - len(self.samples) // 4]

    @property
    def held_out(self) -> tuple[Sample, ...]:
        """Returns the samples that a result is measured on: the last quarter."""
        return self.samples[len(self.fitted) :]


def load_calibration(source: Source | None) -> CalibrationText:
    """Returns the samples at `source`, or the bundled ones without it.

    The source is a .jsonl file or a folder with one. Raises InvalidInput: the file is missing, is not the one of
    `source.digest`, or is no calibration text; and what its store raises.
    """
    return bundled() if source is None else _read(source)


def bundled() -> CalibrationText:
    """Returns the bundled set: prose, code and conversations in several languages, free to use."""
    return parse(BUNDLED_FILE, files("ftm_jobs").joinpath("data", BUNDLED_FILE).read_bytes())


def _read(source: Source) -> CalibrationText:
    folder, wanted = _split(source)
    store = open_store(folder)
    sizes = store.list()
    if not sizes:
        raise InvalidInput(
            Reason.SOURCE_NOT_FOUND, f"calibration {source.uri} is not there: upload it or correct the URI"
        )
    names = [name for name in sorted(sizes) if name == wanted or (wanted is None and name.endswith(SUFFIX))]
    if not names:
        missing = f"has no {wanted}" if wanted else f"has no {SUFFIX} file"
        raise InvalidInput(Reason.MISSING_FILE, f"calibration {store.uri} {missing}: upload one with lines like {FORM}")
    if len(names) > 1:
        raise InvalidInput(
            Reason.INVALID_CALIBRATION,
            f"calibration {store.uri} has {', '.join(names[:3])}: name one of them in the URI",
        )
    name = names[0]
    if sizes[name] > LARGEST_BYTES:
        raise InvalidInput(
            Reason.INVALID_CALIBRATION,
            f"calibration {store.describe(name)} has {sizes[name]} bytes, more than {LARGEST_BYTES}: "
            "a few hundred samples are enough",
        )
    parsed = parse(store.describe(name), bytes(store.read(name, 0, sizes[name])))
    if source.digest and source.digest != parsed.digest:
        raise InvalidInput(
            Reason.SOURCE_CHANGED,
            f"calibration {store.describe(name)} has digest {parsed.digest}, not {source.digest}: "
            + take_the_new_one(),
        )
    return replace(parsed, uri=store.describe(name))


def _split(source: Source) -> tuple[Source, str | None]:
    """Returns the folder, and the name of the file in it; None when the source is a folder."""
    location = source.location
    path = location.root if location.scheme == "file" else location.prefix
    folder, _, name = path.rpartition("/")
    if location.scheme == "hf" or not name.endswith(SUFFIX):
        return source, None
    uri = location.uri.rpartition("/")[0]
    if location.scheme == "file":
        return replace(source, location=replace(location, uri=uri, root=folder or "/")), name
    return replace(source, location=replace(location, uri=uri, prefix=folder)), name


def parse(label: str, data: bytes) -> CalibrationText:
    """Returns the samples in a file's bytes. Raises InvalidInput (InvalidCalibration) naming `label` and the line."""
    if not data.strip():
        _refuse(label, f"is empty: write at least {SMALLEST_SAMPLES} lines like {FORM}")
    samples = tuple(
        _sample(f"{label} line {number}", line) for number, line in enumerate(_lines(label, data), 1) if line.strip()
    )
    if len(samples) < SMALLEST_SAMPLES:
        _refuse(
            label,
            f"has {len(samples)} sample{'' if len(samples) == 1 else 's'}: at least {SMALLEST_SAMPLES} are needed, "
            "since a quarter is held out to measure on; some 64 are good",
        )
    return CalibrationText(samples, f"sha256:{hashlib.sha256(data).hexdigest()}")


def _lines(label: str, data: bytes) -> Iterator[str]:
    """Yields lines, split at line feeds alone: JSON strings may hold other line separators."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            _refuse(f"{label} line {number}", f"is not UTF-8 at byte {error.start}: save the file as UTF-8", error)


def _sample(where: str, line: str) -> Sample:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        _refuse(where, f"is not JSON ({error}): write one object per line, like {FORM}", error)
    if not isinstance(entry, dict) or ("text" in entry) == ("messages" in entry):
        _refuse(where, f'has not exactly one of "text" and "messages": write {FORM}')
    if "text" in entry:
        return Sample(where, text=_text(where, "text", entry["text"]))
    messages = entry["messages"]
    if not isinstance(messages, list) or not messages:
        _refuse(where, f'has "messages" that are not a list of messages: write {FORM}')
    return Sample(where, messages=tuple(_message(where, number, each) for number, each in enumerate(messages)))


def _message(where: str, number: int, entry: Any) -> ChatMessage:
    if not isinstance(entry, dict):
        _refuse(where, f"messages[{number}] is not an object: write {FORM}")
    role = _text(where, f"messages[{number}].role", entry.get("role"))
    return ChatMessage(role, _text(where, f"messages[{number}].content", entry.get("content")))


def _text(where: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        shown = json.dumps(value)[:40]
        _refuse(where, f"{field} is {shown}, not a text: write one, or remove the line")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        _refuse(where, f"{field} holds half of a surrogate pair: write the character itself", error)
    return value


def evenly(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Returns at most `most` samples from all over the file, in its order; equal files give equal samples."""
    count = min(most, len(samples))
    return [samples[place * len(samples) // count] for place in range(count)]


def _refuse(label: str, text: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidInput(Reason.INVALID_CALIBRATION, f"calibration {label} {text}") from cause
