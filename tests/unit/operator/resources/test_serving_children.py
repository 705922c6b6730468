"""Probes, the Service and the disruption budget follow the spec; what it leaves open stays as it is."""

from typing import Any

import pytest

from ftm_operator.api.errors import parse
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.serving.disruption_budget import disruption_budget
from ftm_operator.resources.serving.service import endpoint, service
from tests.unit.operator.objects import NAME, Manifest, resource
from tests.unit.operator.resources.test_resources import engine, served
from tests.unit.operator.scene import scene_of

SINGLE = Plan(engine="vLLM")
GROUPS = Plan(engine="vLLM", nodes=2)


def model(**serving: Any) -> FineTunedModel:
    return parse(FineTunedModel, resource(serving=serving))


def budget(plan: Plan = SINGLE, replicas: int = 1, **asked: Any) -> Manifest:
    made = disruption_budget(model(disruptionBudget=asked), plan, replicas)
    assert made
    spec: Manifest = made["spec"]
    return spec


def test_an_engine_that_takes_an_hour_to_start_is_given_an_hour() -> None:
    slow = {"startupSeconds": 3601}
    probe = engine(probes=slow)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3605
    assert served(probes=slow)["spec"]["progressDeadlineSeconds"] == 7202
    assert served()["spec"]["progressDeadlineSeconds"] == 3600


def test_probes_have_the_times_of_the_spec_and_the_usual_ones_for_the_rest() -> None:
    usual = engine()
    asked = engine(probes={"readiness": {"timeoutSeconds": 30}, "liveness": {"periodSeconds": 60}})
    assert asked["readinessProbe"] == usual["readinessProbe"] | {"timeoutSeconds": 30}
    assert asked["livenessProbe"] == usual["livenessProbe"] | {"periodSeconds": 60}
    assert asked["startupProbe"] == usual["startupProbe"]


def test_a_service_has_the_type_port_and_annotations_of_the_spec() -> None:
    asked = {"type": "LoadBalancer", "port": 8080, "annotations": {"cloud/internal": "true"}}
    made = service(model(service=asked), Plan(engine="vLLM"), {})
    (port,) = made["spec"]["ports"]
    assert (made["spec"]["type"], port["port"], port["targetPort"]) == ("LoadBalancer", 8080, "http")
    assert made["metadata"]["annotations"].keys() == {"cloud/internal", "ftm.dev/spec-hash"}
    assert endpoint(model(service=asked)) == "http://support-bot.team-a.svc:8080/v1"


def test_the_endpoint_names_no_port_where_it_is_that_of_http() -> None:
    assert endpoint(model(service={"type": "NodePort"})) == endpoint(model()) == "http://support-bot.team-a.svc/v1"


def test_a_budget_covers_the_serving_pods_and_lets_broken_ones_go() -> None:
    made = budget(minAvailable="50%")
    assert made["minAvailable"] == "50%"
    assert made["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert made["selector"]["matchLabels"].items() <= served()["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("asked", "away"),
    [
        ({"minAvailable": 1}, 2),
        ({"minAvailable": 5}, 0),
        ({"minAvailable": "50%"}, 1),
        ({"maxUnavailable": 1}, 1),
        ({"maxUnavailable": "34%"}, 2),
    ],
)
def test_of_three_groups_as_many_pods_may_be_away_as_replicas_may(asked: Manifest, away: int) -> None:
    made = budget(GROUPS, replicas=3, **asked)
    assert made["maxUnavailable"] == away
    assert "minAvailable" not in made


def test_a_budget_is_made_when_it_is_asked_for_and_goes_when_it_no_longer_is() -> None:
    scene = scene_of(resource())
    scene.reach("Ready")
    assert not [line for line in scene.applied if "PodDisruptionBudget" in line]
    scene.edit(serving={"disruptionBudget": {"maxUnavailable": 1}})
    assert scene.get("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    scene.edit(serving={"disruptionBudget": {"minAvailable": 1}})
    assert "maxUnavailable" not in scene.get("PodDisruptionBudget")["spec"]
    scene.edit(serving={})
    assert scene.applied[-1] == f"delete PodDisruptionBudget {NAME}"
    assert scene.phase() == "Ready"
    assert scene.once().actions == ()


def test_a_budget_of_somebody_else_stands_in_the_way_only_of_one_that_is_asked_for() -> None:
    scene = scene_of(resource())
    scene.reach("Ready")
    theirs = {"kind": "PodDisruptionBudget", "metadata": {"name": NAME, "namespace": "team-a"}, "spec": {}}
    scene.put(theirs)
    scene.settle()
    assert scene.phase() == "Ready"
    scene.edit(serving={"disruptionBudget": {"maxUnavailable": 1}})
    assert scene.condition("Ready").reason == "NameTaken"
