"""The reference page names every rule and every common GPU's field and no other, and has the measured table."""

import re
from pathlib import Path

from ftm_operator.planning.gpus.accelerators import DeclaredClass
from ftm_operator.planning.rules import context_length, placement, tensor_parallel
from ftm_operator.planning.sizing import choice, offered_classes, search, spec_sizing
from tests.unit.operator.planning import measured_table

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "sizing.md").read_text()
MODULES = (choice, context_length, offered_classes, placement, search, spec_sizing, tensor_parallel)


def test_every_rule_is_on_the_page_and_no_other() -> None:
    sources = [Path(str(module.__file__)).read_text() for module in MODULES]
    used = {rule for source in sources for rule in re.findall(r'(?:Rejection|NoFit)\(\s*"([A-Za-z]+)"', source)}
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == used


def test_every_field_of_a_class_is_on_the_page() -> None:
    written = set(re.findall(r"^\| `([a-z]\w+)` \|", PAGE, re.MULTILINE)) - {"rule"}
    assert written == {field.alias for field in DeclaredClass.model_fields.values()}


def test_the_measured_table_is_what_is_predicted_now() -> None:
    assert measured_table.on_the_page() == measured_table.table(), (
        "run python -m tests.unit.operator.planning.measured_table, and commit the page"
    )
