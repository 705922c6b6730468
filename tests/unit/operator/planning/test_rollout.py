"""A new version starts beside the old one where its GPUs are, else after it, and the reason is said."""

from typing import Any, Literal

import pytest

from ftm_operator.api.v1alpha1 import Plan, ServingSpec
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.planning.rollout import Rollout, choose_rollout

Strategy = Literal["Auto", "Surge", "Recreate"]


def a10g(**fields: Any) -> list[AcceleratorClass]:
    return declared_classes([{"name": "A10G", **fields}])


def plan(gpus: int = 1, kind: str | None = "A10G", nodes: int | None = None) -> Plan:
    return Plan(mode="Merged", engine="vLLM", quantization="None", gpus=gpus, accelerator_class=kind, nodes=nodes)


def chosen(there: list[AcceleratorClass], made: Plan, replicas: int = 1, strategy: Strategy = "Auto") -> Rollout:
    return choose_rollout(ServingSpec(replicas=replicas, strategy=strategy), made, there)


@pytest.mark.parametrize(
    ("there", "made", "replicas", "surge"),
    [
        (a10g(perNode=1), plan(), 1, False),
        (a10g(perNode=2), plan(), 1, True),
        (a10g(perNode=1, nodes=2), plan(), 1, True),
        (a10g(perNode=4), plan(gpus=4), 1, False),
        (a10g(perNode=3, nodes=2), plan(gpus=2), 1, True),
        (a10g(perNode=3, nodes=2), plan(gpus=2), 2, False),
        (a10g(perNode=1, sharedBy=2), plan(), 1, True),
        (a10g(perNode=8, nodes=3), plan(gpus=16, nodes=2), 1, False),
        (a10g(perNode=8, nodes=4), plan(gpus=16, nodes=2), 1, True),
        (a10g(perNode=1), plan(kind=None), 1, True),
        ([], plan(), 1, True),
        (a10g(perNode=1), plan(gpus=0, kind=None), 1, True),
    ],
)
def test_a_new_version_starts_beside_the_old_one_where_there_is_room(
    there: list[AcceleratorClass], made: Plan, replicas: int, surge: bool
) -> None:
    assert chosen(there, made, replicas).surge is surge


def test_the_reason_has_the_gpus_and_the_replicas() -> None:
    assert chosen(a10g(perNode=1), plan()).said == (
        "an old replica ends before a new one: 1 x A10G hold 1 replicas, and 1 are wanted; spec.serving.strategy Surge "
        "waits for more GPUs instead"
    )


def test_the_spec_says_it_whatever_there_is() -> None:
    assert chosen(a10g(perNode=1), plan(), strategy="Surge") == Rollout(True, "spec.serving.strategy says so", True)
    assert not chosen(a10g(perNode=8), plan(), strategy="Recreate").surge
