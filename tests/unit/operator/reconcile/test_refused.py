"""What the API server refuses is in the status, in its own words, with advice; the other children are still applied."""

from dataclasses import replace

import pytest

from ftm_operator.reconcile.refusals import Refusal
from tests.unit.operator.kstatus import violations
from tests.unit.operator.scene import scene_of

QUOTA = 'jobs.batch "j" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=0'
POLICY = "deployments.apps \"bot\" is forbidden: ValidatingAdmissionPolicy 'no-gpu' denied request: no GPUs here"
INVALID = 'Job.batch "j" is invalid: spec.template.spec.nodeSelector: Invalid value: "a b"'
RBAC = (
    'jobs.batch is forbidden: User "system:serviceaccount:ftm:ftm" cannot create resource "jobs" in API group "batch"'
)
WEBHOOK = 'Internal error occurred: failed calling webhook "check.example.com": connection refused'

UNDECLARED = "failed to create typed patch object: .spec.template.spec.hostNetwrk: field not declared in schema"


@pytest.mark.parametrize(
    ("status", "said", "advice", "phase"),
    [
        (403, QUOTA, "raise the namespace's quota, or free some of it", "Inspecting"),
        (403, POLICY, "change the spec as the policy says, or the policy", "Failed"),
        (422, INVALID, "correct the field of the spec", "Failed"),
        (403, RBAC, "install the chart of the operator's version, whose roles allow it", "Failed"),
        (500, WEBHOOK, "mend the webhook that it names", "Inspecting"),
        (500, UNDECLARED, "correct the field of the spec", "Failed"),
        (409, "", "correct what it names", "Failed"),
    ],
)
def test_a_refusal_is_in_the_status(status: int, said: str, advice: str, phase: str) -> None:
    scene = scene_of()
    scene.refusals = (Refusal("Job", "ftm-inspect-1", status, said),)
    scene.settle()
    ready = scene.condition("Ready")
    assert (ready.status, ready.reason) == ("False", "ChildRefused")
    assert ready.message == f"the API server refuses Job ftm-inspect-1: {said or f'status {status}'}; {advice}"
    assert scene.phase() == phase
    assert not violations(scene.resource())
    assert scene.resource()["status"]["observedGeneration"] == 1
    assert f"{'Warning' if phase == 'Failed' else 'Normal'} ChildRefused" in scene.events


def test_once_it_is_taken_the_status_goes_on() -> None:
    scene = scene_of()
    scene.refusals = (Refusal("Job", "ftm-inspect-1", 403, POLICY),)
    scene.settle()
    scene.refusals = ()
    scene.settle()
    assert scene.condition("Ready").reason == "Inspecting"


def test_more_refusals_are_counted() -> None:
    scene = scene_of()
    scene.reach("Ready")
    first = Refusal("Service", "support-bot", 422, INVALID)
    scene.refusals = (first, replace(first, kind="Deployment"))
    scene.settle()
    assert scene.condition("Ready").message.startswith("the API server refuses Service support-bot (and 1 more): ")
    assert scene.condition("Ready").status == "False"


def test_a_refusal_that_may_pass_does_not_hide_what_a_person_must_mend() -> None:
    scene = scene_of()
    scene.refuse("inspect", "BucketNotFound", "no such bucket")
    scene.refusals = (Refusal("Deployment", "support-bot", 500, WEBHOOK),)
    scene.settle()
    assert scene.phase() == "Failed"
    assert scene.stalled().reason == "BucketNotFound"
