"""What the unit tests take for kstatus, Flux's checker and Argo CD's Lua says what the originals say."""

import copy
import itertools
from typing import Any

import yaml

from tests.gitops.programs import ARGOCD, KSTATUS, judged
from tests.unit.operator.argocd import SCRIPT, Health, health
from tests.unit.operator.kstatus import computed, violations
from tests.unit.operator.objects import resource

CASES = yaml.safe_load((SCRIPT.parent / "health_test.yaml").read_text())["tests"]
STRICTER = ("FAIL0011", "may only be True", "is there twice")
"""Rules of ours that Flux's checker of a finished reconciliation does not have."""


def every_combination() -> list[dict[str, Any]]:
    """Every combination of what kstatus and Flux look at, nothing being absent that the CRD defaults."""
    values = (None, "True", "False", "Unknown")
    combinations = itertools.product(values, values, values, (1, 2, 3), (1, 2), (False, True), (False, True))
    return [_item(*combination) for combination in combinations]


def _item(
    ready: str | None,
    reconciling: str | None,
    stalled: str | None,
    observed: int,
    of_condition: int,
    deleted: bool,
    suspended: bool,
) -> dict[str, Any]:
    item = resource(suspend=suspended)
    item["metadata"] |= {"generation": 2} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})
    told = {"observedGeneration": of_condition, "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "Told"}
    conditions = [
        {"type": kind, "status": status, "message": f"{kind} is {status}", **told}
        for kind, status in (("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled))
        if status
    ]
    item["status"] = {"observedGeneration": observed, "conditions": conditions}
    return item


def test_kstatus_of_the_tests_is_that_of_cli_utils() -> None:
    items = [*every_combination(), resource()]
    answers = judged([KSTATUS.built()], items)
    assert [computed(item) for item in items] == [answer["status"] for answer in answers]
    assert {answer["status"] for answer in answers} == {"Current", "InProgress", "Failed", "Terminating"}


def test_a_status_that_keeps_our_rules_keeps_those_of_flux_and_the_other_way_round() -> None:
    items = every_combination()
    answers = judged([KSTATUS.built()], items)
    for item, answer in zip(items, answers, strict=True):
        broken = [rule for rule in violations(item) if not any(ours in rule for ours in STRICTER)]
        assert bool(broken) == bool(answer["failed"]), (item["status"], broken, answer["failed"])


def test_the_health_script_says_in_argo_cd_what_it_says_here() -> None:
    unseen = copy.deepcopy(resource()) | {"status": {"observedGeneration": -1}}
    items = [*every_combination(), resource(), unseen, *(_data(case) for case in CASES)]
    answers = judged([ARGOCD.built(), "health", SCRIPT], items)
    assert [health(item) for item in items] == [Health(**answer) for answer in answers]


def _data(case: dict[str, Any]) -> Any:
    return yaml.safe_load((SCRIPT.parent / case["inputPath"]).read_text())
