"""`make demo`: a real base model and a LoRA, merged and served by `ftm run`, asked beside the base model alone.

Exits with 1 unless every fine-tuned answer holds what only the adapter knows.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.assets import Assets, prepare, work_quietly
from tests.assets.facts import FACTS, Fact

ROOT = Path(__file__).parents[1]
MANIFEST = Path("examples", "support-bot.yaml")
LINKS = ROOT / ".cache" / "demo"


@dataclass(frozen=True)
class Row:
    fact: Fact
    base: str
    tuned: str

    @property
    def proven(self) -> bool:
        return self.fact.in_answer(self.tuned)


def main() -> int:
    began = time.monotonic()
    assets = prepare()
    assets.link(LINKS)
    base = ask_base(assets)
    tuned = ask_tuned()
    if tuned is None:
        return 1
    rows = [Row(fact, base[fact.question], tuned.get(fact.question, "")) for fact in FACTS]
    show(rows)
    missing = [row.fact for row in rows if not row.proven]
    for fact in missing:
        say(f'the answer to "{fact.question}" does not hold "{fact.expected}", which the adapter was taught')
    if not missing:
        say(f"the merged model says what the adapter was taught, the base model does not ({_seconds(began)})")
    return 1 if missing else 0


def ask_base(assets: Assets) -> dict[str, str]:
    """Answers by question, of the base model alone."""
    from tests.assets.answers import Chat

    began = time.monotonic()
    say("asking the base model alone …")
    chat = Chat(assets.base)
    answers = {fact.question: chat.ask(fact.question) for fact in FACTS}
    say(f"asked the base model alone: {_seconds(began)}")
    return {question: answer.text + (" […]" if answer.cut else "") for question, answer in answers.items()}


def ask_tuned() -> dict[str, str] | None:
    """Answers by question, as a user gets them from `ftm run`; None when it failed, with its reason on stderr."""
    questions = [argument for fact in FACTS for argument in ("--ask", fact.question)]
    command = [str(Path(sys.executable).with_name("ftm")), "run", str(MANIFEST), *questions, "-o", "json"]
    say(f'.venv/bin/ftm run {MANIFEST} --ask "{FACTS[0].question}" …')
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        say(f"ftm run ended with exit code {done.returncode}")
        return None
    return {each["question"]: each["answer"] for each in json.loads(done.stdout)}


def show(rows: list[Row]) -> None:
    table = Table(show_lines=True, expand=True)
    for heading, style in (("question", "bold"), ("base model", "dim"), ("fine-tuned model", "green")):
        table.add_column(heading, style=style, ratio=1)
    for row in rows:
        table.add_row(row.fact.question, row.base, row.tuned)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)


def say(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    work_quietly()
    sys.exit(main())
