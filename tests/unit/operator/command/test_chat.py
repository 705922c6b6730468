"""`ftm chat` talks line by line: it remembers, forgets, compares, and a Ctrl-C stops an answer alone."""

import io
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.operator.command.openai_server import OpenAI, openai_server
from tests.unit.operator.command.test_cli import ftm


@pytest.fixture
def url() -> Iterator[str]:
    with openai_server() as url:
        yield url


def lines(monkeypatch: pytest.MonkeyPatch, *text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in text)))


def test_each_line_is_a_question_and_what_was_said_is_remembered_until_it_is_cleared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    lines(monkeypatch, "Who?", "", "Where?", "/clear", "When?", "/quit", "Why?")
    code, out, err = ftm(capsys, "chat", url, "--system", "Be brief.")
    assert (code, out) == (0, "bot heard 2\nbot heard 4\nbot heard 2\n")
    assert err == "ftm: all that was said is forgotten\n"
    assert [each["content"] for each in OpenAI.asked[1]["messages"]] == ["Be brief.", "Who?", "bot heard 2", "Where?"]
    assert OpenAI.asked[0]["temperature"] == 0


def test_several_models_are_asked_each_question_and_each_remembers_its_own_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    lines(monkeypatch, "Who?", "Where?")
    _, out, _ = ftm(capsys, "chat", url, "--compare", "--model", "bot", "--model", "tax")
    assert out == "bot: bot heard 1\ntax: tax heard 1\nbot: bot heard 3\ntax: tax heard 3\n"
    assert sorted(OpenAI.models()) == ["bot", "bot", "tax", "tax"]
    lines(monkeypatch, "Who?")
    assert ftm(capsys, "chat", url, "--compare")[1].count("heard") == 3, "all that are listed"


def test_a_failed_answer_ends_it_with_the_engines_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    lines(monkeypatch, "Who?", "Where?")
    OpenAI.status = 500
    code, out, err = ftm(capsys, "chat", url)
    assert (code, out) == (1, "")
    assert err == f"ftm: {url} refused 'Who?' with status 500: the engine is out of memory\n"


def test_wrong_use_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert ftm(capsys, "chat", url, "--model", "x") == (
        2,
        "",
        f"ftm: {url} serves no model x; it lists bot, law, tax\n",
    )
    sentence = "ftm: here are 2 models; write one --model, or --compare them\n"
    assert ftm(capsys, "chat", url, "--model", "bot", "--model", "tax") == (2, "", sentence)
    lines(monkeypatch, "/help")
    told = "ftm: there is no /help; /clear forgets what was said, /quit or Ctrl-D ends, Ctrl-C stops an answer\n"
    assert ftm(capsys, "chat", url) == (0, "", told)


class Terminal:
    """A person at a terminal with `ftm chat`."""

    def __init__(self, *arguments: str) -> None:
        self._end, inner = pty.openpty()
        command = [str(Path(sys.executable).with_name("ftm")), "chat", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
            preexec_fn=_own_terminal,  # noqa: PLW1509 - the function takes no lock
        )
        os.close(inner)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def type_until(self, text: str, seen: str) -> None:
        """Types until it is answered: what is typed before the program reads is for what it does then."""
        while seen not in self._seen:
            self.type(text)
            while select.select([self._end], [], [], 1)[0]:
                self._seen += os.read(self._end, 4096).decode()
        self.see(seen)

    def see(self, text: str) -> str:
        """Returns what came up to and with the text; what comes later is seen next."""
        while text not in self._seen:
            assert select.select([self._end], [], [], 120)[0], f"{text!r} does not come after {self._seen!r}"
            self._seen += os.read(self._end, 4096).decode()
        seen, _, self._seen = self._seen.partition(text)
        return seen + text

    def end(self) -> int:
        code = self.process.wait(120)
        os.close(self._end)
        return code


def _own_terminal() -> None:
    """Has the terminal send its Ctrl-C to this process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_ends_the_program(url: str) -> None:
    OpenAI.held.clear()
    terminal = Terminal(url)
    terminal.see("/clear forgets what was said")
    terminal.see("> ")
    terminal.type("Who?\n")
    terminal.see("bot ")
    terminal.type("\x03")
    terminal.see("stopped")
    terminal.see("> ")
    terminal.type_until("\x03", "Ctrl-D ends")
    OpenAI.held.set()
    terminal.see("> ")
    terminal.type("Where?\n")
    terminal.see("bot heard 3")
    terminal.see("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert [each["content"] for each in OpenAI.asked[1]["messages"]] == ["Who?", "bot ", "Where?"]


def test_on_a_terminal_models_answer_side_by_side(url: str) -> None:
    terminal = Terminal(url, "--compare", "--model", "law", "--model", "tax")
    terminal.see("law, tax: /clear")
    terminal.type("Who?\n")
    seen = terminal.see("tax heard 1")
    assert "law heard 1" in seen
    assert "law" in seen.splitlines()[-3]
    terminal.type("/quit\n")
    assert terminal.end() == 0
