"""Runs a GGUF model by llama.cpp: logits, answers and tokens; and reads the types of its tensors.

Python's binding and GGUF's table of names are those of the pinned llama.cpp build that converts and serves. They are
imported when a model is opened, so that verifying another kind needs neither.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.quantize.gguf.header import GgufHeader, InvalidGguf, read_gguf
from ftm_jobs.quantize.gguf.llama_cpp import find_llama_cpp
from ftm_jobs.verify.models.devices import cores
from ftm_jobs.verify.models.layerwise import Tokens

_SUFFIXES = (".weight", ".bias")
ENGINE = "llama.cpp"


class GgufModel:
    """Computes next-token logits of prompts (`layerwise.Logits`), and keeps one prompt's at a time."""

    def __init__(self, path: Path, prompts: Sequence[Tokens], threads: int, room: int = 0) -> None:
        """Loads the model; an answer may have `room` tokens."""
        self.prompts = list(prompts)
        longest = max(map(len, prompts), default=1) + room
        self._llama = open_llama(path, n_ctx=longest + 8, n_batch=longest + 8, n_threads=threads, logits_all=True)
        self._evaluated = -1

    @contextmanager
    def ready(self) -> Iterator[None]:
        yield

    def of(self, prompt: int, first: int, count: int) -> torch.Tensor:
        if prompt != self._evaluated:
            self._llama.reset()
            self._llama.eval(list(self.prompts[prompt]))
            self._evaluated = prompt
        return torch.from_numpy(self._llama.scores[first : first + count].copy())

    def start(self, tokens: Tokens) -> torch.Tensor:
        """Returns the logits of the token after these: (vocabulary,)."""
        self._evaluated = -1
        self._llama.reset()
        self._llama.eval(list(tokens))
        return self._last()

    def go_on(self, token: int) -> torch.Tensor:
        self._llama.eval([token])
        return self._last()

    def close(self) -> None:
        self._llama.close()

    def _last(self) -> torch.Tensor:
        return torch.from_numpy(self._llama.scores[self._llama.n_tokens - 1].copy())


class GgufTokenizer:
    """Runs the tokenizer in a GGUF file (`tokenizer_parity.Tokenizer`)."""

    def __init__(self, path: Path) -> None:
        self._llama = open_llama(path, vocab_only=True)

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        text: bytes = self._llama.detokenize(list(tokens), special=True)
        return text.decode(errors="replace")

    @property
    def special(self) -> dict[str, int | None]:
        library = _build("python", "llama_cpp")
        vocabulary = library.llama_model_get_vocab(self._llama.model)
        named = {
            "bos_token": library.llama_vocab_bos(vocabulary),
            "eos_token": library.llama_vocab_eos(vocabulary),
        }
        return {name: token if token >= 0 else None for name, token in named.items()}

    @property
    def adds_first(self) -> bool:
        """Says whether a text gets the token that begins one."""
        library = _build("python", "llama_cpp")
        return bool(library.llama_vocab_get_add_bos(library.llama_model_get_vocab(self._llama.model)))

    @property
    def chat_template(self) -> str | None:
        template = self._llama.metadata.get("tokenizer.chat_template")
        return str(template) if template else None

    def close(self) -> None:
        self._llama.close()


@contextmanager
def running(path: Path, prompts: Sequence[Tokens], room: int) -> Iterator[GgufModel]:
    """Loads a model that computes these prompts and answers of `room` tokens, and closes it at the end."""
    model = GgufModel(path, prompts, cores(), room)
    try:
        yield model
    finally:
        model.close()


def open_llama(path: Path, **settings: Any) -> Any:
    """Opens llama-cpp-python's model. Raises Failed without a llama.cpp, InvalidInput when it refuses the file."""
    try:
        return _build("python", "llama_cpp").Llama(str(path), verbose=False, seed=0, **settings)
    except ValueError as error:
        raise InvalidInput(Reason.CORRUPT_ARTIFACT, f"{path.name} cannot be loaded by llama.cpp: {error}") from error


def tensor_kinds(path: Path) -> dict[str, str]:
    """Returns GGUF types by GGUF's tensor names; no tensor is read."""
    return {name: tensor.storage for name, tensor in _header(path).tensors.items()}


def kinds_of(path: Path, names: Iterable[str], layers: int) -> dict[str, str]:
    """Returns GGUF types by safetensors' names; a name that GGUF does not map has the commonest quantized type."""
    kinds = tensor_kinds(path)
    mapped = _names(path, names, layers)
    weights = Counter(kind for name, kind in kinds.items() if kind != "F32")
    usual = weights.most_common(1)[0][0] if weights else "F32"
    return {name: kinds.get(gguf_name, usual) for name, gguf_name in mapped.items()}


def _names(path: Path, names: Iterable[str], layers: int) -> Mapping[str, str]:
    gguf = _build("convert/gguf-py", "gguf")
    named = _header(path).metadata.get("general.architecture")
    architecture = next((each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == named), None)
    if architecture is None:
        return dict.fromkeys(names, "")
    table = gguf.get_tensor_name_map(architecture, layers)
    return {name: table.get_name(name, try_suffixes=_SUFFIXES) or "" for name in names}


def _header(path: Path) -> GgufHeader:
    try:
        return read_gguf(path)
    except InvalidGguf as error:
        raise InvalidInput(
            Reason.CORRUPT_ARTIFACT,
            f"{path.name} is no whole GGUF file: {error}; delete the artifact and convert again",
        ) from error


def _build(folder: str, module: str) -> Any:
    """Returns a module of the pinned llama.cpp build. Raises Failed when it cannot be imported."""
    place = str(find_llama_cpp().folder / folder)
    try:
        with _importable(place):
            return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise Failed(
            Reason.INTERNAL_ERROR, f"{module} of {place} cannot be imported: {error}; build it again"
        ) from error


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Adds a folder to the end of the import path: llama.cpp's build is no installed package."""
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
