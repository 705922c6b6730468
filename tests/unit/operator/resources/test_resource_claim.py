"""GPUs that a DRA driver allocates: what the claim asks for, and how a pod of a plan names it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.resources.resource_claim import lacks_claim, template
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, built_weights
from tests.unit.operator.objects import SETTINGS, STORE, facts, resource
from tests.unit.operator.resources.test_resources import ARTIFACT

PUBLISHED = declared_classes([{"name": "A10G", "perNode": 4, "resource": "gpu.nvidia.com"}])
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def planned(**serving: Any) -> tuple[FineTunedModel, Plan]:
    serving = {"accelerator": {"allocation": "DynamicResources"}, **serving}
    model = FineTunedModel.model_validate(resource(serving=serving))
    found = plan("support-bot", model.spec, facts(), PUBLISHED)
    assert isinstance(found, Planned)
    return model, found.plan


def test_a_pod_names_the_template_and_its_engine_the_claim() -> None:
    model, found = planned(resources={"limits": {"memory": "8Gi"}})
    pod = deployment(ServedModel(model, found, facts(), built_weights(ARTIFACT, STORE), STORE), SETTINGS)["spec"][
        "template"
    ]["spec"]
    made = template(model, found)
    assert pod["resourceClaims"] == [{"name": "gpus", "resourceClaimTemplateName": made["metadata"]["name"]}]
    resources = pod["containers"][0]["resources"]
    assert (resources["claims"], resources["limits"]) == ([{"name": "gpus"}], {"memory": "8Gi"})
    (request,) = made["spec"]["spec"]["devices"]["requests"]
    assert (request["exactly"]["deviceClassName"], request["exactly"]["count"]) == ("gpu.nvidia.com", 1)


def test_another_plan_is_another_template_since_one_cannot_change() -> None:
    names = {template(*planned(maxModelLen=length))["metadata"]["name"] for length in (1024, 1024, 8192)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("age", "claims", "status", "lacks"),
    [
        (60, [{"name": "gpus"}], {}, True),
        (1, [{"name": "gpus"}], {}, False),
        (60, [{"name": "gpus"}], {"resourceClaimStatuses": [{"name": "gpus"}]}, False),
        (60, [], {}, False),
    ],
    ids=["waits", "new", "has its claim", "needs none"],
)
def test_a_pod_without_its_claim_means_that_the_template_is_gone(
    age: int, claims: list[Any], status: dict[str, Any], lacks: bool
) -> None:
    created = (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    pod = {"metadata": {"creationTimestamp": created}, "spec": {"resourceClaims": claims}, "status": status}
    assert lacks_claim([pod], NOW) is lacks
