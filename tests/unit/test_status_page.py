"""docs/reference/status.md has a row for every phase, condition and reason that a status can hold."""

import re
from pathlib import Path
from typing import get_args

from ftm_jobs.errors import Reason as StepReason
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Phase
from ftm_operator.steps import STEPS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/status.md").read_text()
ROWS = {
    word for line in PAGE.splitlines() if line.startswith("|") for word in line.split("|")[1].replace(",", " ").split()
}


def rules() -> set[str]:
    sources = (ROOT / "operator/ftm_operator/planning").rglob("*.py")
    return {rule for source in sources for rule in re.findall(r'(?:Rejection|NoFit)\(\s*"(\w+)"', source.read_text())}


def test_every_reason_has_a_row() -> None:
    assert rules() >= {"AttentionHeads", "ContextLength"}
    assert {*OperatorReason, *StepReason, *rules()} - ROWS == set()


def test_every_phase_has_a_row() -> None:
    assert set(get_args(Phase)) - ROWS == set()


def test_every_step_has_a_row_for_its_condition_its_phase_and_its_reason() -> None:
    assert {word for step in STEPS for word in (step.condition, step.phase, step.running)} - ROWS == set()


def test_no_row_is_of_something_that_is_not_there() -> None:
    conditions = {"Ready", "Reconciling", "Stalled", "ServedVerified", *(step.condition for step in STEPS)}
    headings = {"phase", "type", "reason", "---"}
    assert ROWS - {*OperatorReason, *StepReason, *rules(), *get_args(Phase), *conditions, *headings} == set()
