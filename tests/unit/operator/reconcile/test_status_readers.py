"""What GitOps tools read from a status: kstatus for Flux, the chart's health script for Argo CD.

`Namespace` holds every status that any scene writes to the rules of kstatus; here are the histories that are told for
it, the resource between two passes, and the script's own test data.
"""

from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_operator.api.custom_resources import CUSTOM_RESOURCES
from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.reconcile.refusals import Refusal
from tests.unit.operator.argocd import SCRIPTS, Health, disagreements, health
from tests.unit.operator.kstatus import Item, computed, violations
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, resource
from tests.unit.operator.scene import Scene, scene_of, serving

CASES = [
    (kind, case)
    for kind, script in SCRIPTS.items()
    for case in yaml.safe_load((script.parent / "health_test.yaml").read_text())["tests"]
]
MODELS = {resource.kind: resource.model for resource in CUSTOM_RESOURCES}
BROKEN: dict[str, Callable[[Manifest], object]] = {
    "FAIL0001": lambda status: _condition(status, "Stalled", "True", 1),
    "FAIL0002": lambda status: status["conditions"].clear(),
    "FAIL0005": lambda status: status["conditions"].extend(_raised(kind) for kind in ("Reconciling", "Stalled")),
    "FAIL0006": lambda status: status.update(observedGeneration=2),
    "FAIL0007": lambda status: status.update(observedGeneration=0),
    "FAIL0008": lambda status: _condition(status, "Merged", "True", 0),
    "FAIL0009": lambda status: _condition(status, "Merged", "True", 2),
    "FAIL0011": lambda status: _condition(status, "Ready", "Unknown", 1),
    "may only be True": lambda status: _condition(status, "Reconciling", "False", 1),
}


def _raised(kind: str, value: str = "True", generation: int = 1) -> Manifest:
    return {"type": kind, "status": value, "observedGeneration": generation, "reason": "Told", "message": ""}


def _condition(status: Manifest, kind: str, value: str, generation: int) -> None:
    """Puts a condition in the place of the one of its type, or beside the others."""
    kept = [condition for condition in status["conditions"] if condition["type"] != kind]
    status["conditions"] = [*kept, _raised(kind, value, generation)]


def _running(scene: Scene) -> list[str]:
    return [step for step in ("inspect", "merge", "verify") for job in scene.jobs(step) if not job.get("status")]


def _step_fails(scene: Scene) -> None:
    for step in _running(scene):
        scene.refuse(step, "AccessDenied", "no")


def _step_ends(scene: Scene) -> None:
    ends: dict[str, Callable[[], object]] = {
        "inspect": scene.inspect,
        "merge": scene.merge,
        "verify": scene.verify,
    }
    if scene.condition("Ready").reason == "InvalidSpec":
        return
    for step in _running(scene)[:1]:
        ends[step]()
    if scene.phase() == "Deploying" and scene.cache.get("Deployment", (NAMESPACE, NAME)):
        scene.answer()


def _refused_by_the_server(scene: Scene, status: int) -> None:
    scene.refusals = (Refusal("Deployment", NAME, status, "no"),) if status else ()
    scene.settle()


acts = st.sampled_from(
    (
        *[_step_ends] * 5,
        _step_fails,
        lambda scene: scene.edit(suspend=True),
        lambda scene: scene.edit(suspend=False),
        lambda scene: scene.edit(serving={"replicas": 2}),
        lambda scene: scene.edit(serving={"replicas": -1}),
        lambda scene: scene.edit(serving={"tensorParallelSize": 2}),
        lambda scene: scene.edit(serving={}),
        lambda scene: scene.edit(annotations={"ftm.dev/refresh": "again"}),
        lambda scene: scene.later(600),
        lambda scene: _refused_by_the_server(scene, 422),
        lambda scene: _refused_by_the_server(scene, 500),
        lambda scene: _refused_by_the_server(scene, 0),
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(acts, max_size=12))
def test_every_history_reads_current_only_when_the_present_generation_serves(
    history: list[Callable[[Scene], None]],
) -> None:
    scene = scene_of()
    for act in history:
        act(scene)
        item = scene.resource()
        assert not violations(item)
        assert (computed(item) == "Current") == (scene.phase() == "Ready") == (health(item).status == "Healthy")
        assert (computed(item) == "Failed") == (scene.phase() == "Failed") == (health(item).status == "Degraded")
        edited = {**item, "metadata": {**item["metadata"], "generation": item["metadata"]["generation"] + 1}}
        assert (computed(edited), health(edited).status) == ("InProgress", "Progressing")


@pytest.mark.parametrize("rule", BROKEN)
def test_the_checker_finds_a_status_that_breaks_a_rule(rule: str) -> None:
    item = serving().resource()
    assert not violations(item)
    BROKEN[rule](item["status"])
    assert any(rule in violation for violation in violations(item))


@pytest.mark.parametrize(("kind", "case"), CASES, ids=[f"{kind}/{case['inputPath']}" for kind, case in CASES])
def test_the_health_script_says_what_its_test_data_expects(kind: str, case: Manifest) -> None:
    item = _data(kind, case)
    assert health(item) == Health(**case["healthStatus"])
    assert not disagreements(item)
    MODELS[kind].model_validate(item)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_test_data_has_every_health(kind: str) -> None:
    cases, folder = [case for of, case in CASES if of == kind], SCRIPTS[kind].parent
    suspended = {"Suspended"} if kind == KIND else set()  # an adapter has no spec.suspend
    assert {case["healthStatus"]["status"] for case in cases} == {"Healthy", "Progressing", "Degraded", *suspended}
    assert {folder / case["inputPath"] for case in cases} == set(folder.glob("testdata/*.yaml"))


def _data(kind: str, case: Manifest) -> Item:
    loaded: Item = yaml.safe_load((SCRIPTS[kind].parent / case["inputPath"]).read_text())
    return loaded


def test_a_resource_that_no_operator_has_seen_is_progressing() -> None:
    new = resource() | {"status": {"observedGeneration": -1}}
    assert (computed(new), health(new).status) == ("InProgress", "Progressing")
    assert health(resource()).status == "Progressing"
