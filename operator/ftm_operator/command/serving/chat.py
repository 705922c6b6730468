"""Talks with a served model, or with several side by side: `ftm chat`."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ftm_operator.command.options import NamespaceOption
from ftm_operator.command.serving.endpoint import check_served, is_manifest, named_endpoint
from ftm_operator.command.serving.local_model import served_side_by_side
from ftm_operator.local.conversation import Conversation, StreamedAnswer, ask_all
from ftm_operator.local.engine_client import EngineClient, NoAnswer
from ftm_operator.local.errors import WrongUse
from ftm_operator.local.steps import say

HELP = "/clear forgets what was said, /quit or Ctrl-D ends, Ctrl-C stops an answer"
PROMPT = "> "
REFRESHES_PER_SECOND = 10


def chat(
    target: Annotated[
        str, typer.Argument(metavar="NAME|URL|MANIFEST", help="A FineTunedModel, an endpoint, or a file to serve here.")
    ],
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system prompt.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The value of `model`; with --compare, several.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Ask all models that are served, or those of --model, side by side.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0, help="0 for the likeliest answer.")] = 0,
    namespace: NamespaceOption = None,
) -> None:
    """Talk with a served model; --compare asks several models each question, side by side.

    On a terminal: /clear forgets what was said, /quit or Ctrl-D ends, Ctrl-C stops an answer. Without a terminal each
    line of standard input is a question. A key of the endpoint is read from OPENAI_API_KEY. Of a manifest --compare
    asks the base, its adapters, the merged model and the quantized one, each served by an engine of its own here.
    """
    if model and len(model) > 1 and not compare:
        raise WrongUse(f"here are {len(model)} models; write one --model, or --compare them")
    with _clients(target, namespace, model, compare=compare) as clients:
        conversations = [
            Conversation(name, client, system, max_tokens, temperature) for name, client in clients.items()
        ]
        if sys.stdin.isatty():
            _talk(conversations)
        else:
            _answer_lines(conversations)


@contextlib.contextmanager
def _clients(
    target: str, namespace: str | None, model: list[str] | None, *, compare: bool
) -> Iterator[dict[str, EngineClient]]:
    """Yields the models that are asked, by their names for people. Raises LocalError."""
    if compare and is_manifest(target):
        with served_side_by_side(Path(target)) as served:
            if missing := [name for name in model or () if name not in served]:
                raise WrongUse(f"{target} has no model {missing[0]}; it has {', '.join(served)}")
            yield {name: served[name] for name in model or served}
        return
    with named_endpoint(target, namespace) as endpoint:
        chosen = model or ([each.name for each in endpoint.models] if compare else [endpoint.model])
        check_served(endpoint, chosen)
        yield {name: EngineClient(endpoint.url, name, endpoint.api_key) for name in chosen}


def _answer_lines(conversations: Sequence[Conversation]) -> None:
    """Answers each line of standard input. Raises NoAnswer."""
    for line in sys.stdin:
        if line.strip() == "/quit":
            return
        if not line.strip() or _is_command(line.strip(), conversations):
            continue
        *_, answers = ask_all(conversations, line.strip())
        for answer in answers:
            if answer.error:
                raise answer.error
            print(f"{answer.title}: {answer.text}" if len(answers) > 1 else answer.text, flush=True)


def _talk(conversations: Sequence[Conversation]) -> None:
    """Reads questions from a terminal until its person ends it."""
    with contextlib.suppress(ImportError):  # a Python without it edits no lines
        import readline  # noqa: F401 - input() then edits lines and remembers them

    show = _show_side_by_side if len(conversations) > 1 else _show_stream
    say(f"{', '.join(each.title for each in conversations)}: {HELP}")
    with _interrupts():
        while (question := _question()) is not None:
            if question == "/quit":
                return
            if not question or _is_command(question, conversations):
                continue
            _ask(conversations, question, show)


def _question() -> str | None:
    """Returns the next line, empty after Ctrl-C; None at the end of the input."""
    try:
        return input(PROMPT).strip()
    except KeyboardInterrupt:
        print()
        say(HELP)
        return ""
    except EOFError:
        print()
        return None


def _is_command(line: str, conversations: Sequence[Conversation]) -> bool:
    """Does what a line of one word that begins with / says, and returns whether it was one."""
    if not line.startswith("/") or " " in line:
        return False
    if line == "/clear":
        for each in conversations:
            each.clear()
        say("all that was said is forgotten")
    else:
        say(f"there is no {line}; {HELP}")
    return True


def _ask(
    conversations: Sequence[Conversation], question: str, show: Callable[[Iterator[list[StreamedAnswer]]], None]
) -> None:
    """Asks one question and shows the answers as they grow, until they end or Ctrl-C stops them."""
    with contextlib.closing(ask_all(conversations, question)) as growing:
        try:
            show(growing)
        except KeyboardInterrupt:
            print()
            say("stopped")
        except NoAnswer as error:
            say(str(error))


def _show_stream(growing: Iterator[list[StreamedAnswer]]) -> None:
    printed = 0
    for (answer,) in growing:
        print(answer.text[printed:], end="", flush=True)
        printed = len(answer.text)
        if answer.error:
            raise answer.error
    print()


def _show_side_by_side(growing: Iterator[list[StreamedAnswer]]) -> None:
    with Live(console=Console(), refresh_per_second=REFRESHES_PER_SECOND, vertical_overflow="visible") as live:
        for answers in growing:
            table = Table(expand=True)
            for answer in answers:
                table.add_column(answer.title, ratio=1, overflow="fold")
            table.add_row(*(Text(f"{answer.text}{answer.error or ''}") for answer in answers))
            live.update(table)


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Has Ctrl-C raise KeyboardInterrupt while the block lasts, and not end the program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
