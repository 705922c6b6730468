"""A new step is one record in one list: status, Jobs, Events and `ftm run` follow the list."""

from datetime import datetime

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.spec.jobs import StepsSettings
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.local import steps as local
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.reconcile.passes import Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.settings import Settings
from ftm_operator.steps import STEPS
from ftm_operator.steps.merge import MERGE
from ftm_operator.steps.serve import SERVE
from ftm_operator.steps.step import (
    JobImage,
    JobNeeds,
    JobStep,
    PipelineStep,
    StepCommand,
    StepInputs,
    StepResult,
    Verdict,
)
from tests.unit.operator import namespace
from tests.unit.operator.objects import facts, report, resource, verified_report
from tests.unit.operator.scene import Scene, scene_of

SIGNATURE = Artifact(key="sign-1", uri="s3://artifacts/built/sign-1", digest="sha256:s", total_bytes=1, files=1)


def sign_command(inputs: StepInputs) -> StepCommand:
    arguments = ("sign", "--model", inputs.models[-1].uri)
    return StepCommand("sign", arguments, (), JobImage.JOBS, JobNeeds("2", 2**30, 2**31), inputs.store)


SIGN = JobStep(
    name="sign",
    condition="Signed",
    phase="Verifying",
    running=MERGE.running,
    input_hash=lambda inputs: f"signature-of-{inputs.models[-1].key}",
    command=sign_command,
    image=lambda _: JobImage.JOBS,
    adopt=lambda report, input_hash: StepResult(input_hash, artifact=report.artifact),
    kept=lambda _status, _input_hash, _store: None,
    recorded=lambda status, _result: status,
    verdict=lambda result: Verdict("Signed", f"signed in {result.artifact.uri}" if result.artifact else ""),
)
WITH_SIGN: tuple[PipelineStep, ...] = (*STEPS[:-1], SIGN, SERVE)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A resource whose new step is under way."""

    def pass_with_sign(observed: Observed, settings: Settings, now: datetime) -> Result:
        return reconcile(observed, settings, now, WITH_SIGN)

    monkeypatch.setattr(namespace, "reconcile", pass_with_sign)
    scene = scene_of()
    scene.reach("Verifying")
    scene.verify()
    return scene


def test_a_step_in_the_list_gets_a_job_of_its_own_command_image_and_needs(scene: Scene) -> None:
    (job,) = scene.jobs("sign")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    merged = scene.status()["artifacts"]["merged"]["uri"]
    store = "s3://artifacts/built,credentials=/var/run/ftm/artifacts/artifacts-s3"
    assert container["args"][:3] == ["sign", "--model", merged]
    assert container["args"][3:5] == ["--artifacts", store]
    assert container["image"] == "jobs:1"
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}


def test_a_step_in_the_list_has_its_condition_in_status_and_its_event(scene: Scene) -> None:
    waiting = scene.condition("Signed")
    assert (waiting.status, waiting.reason, scene.phase()) == ("False", MERGE.running, "Verifying")
    scene.end_job("sign", report(Step.MERGE, "Signed", artifact=SIGNATURE))
    signed = scene.condition("Signed")
    assert (signed.status, signed.message) == ("True", f"signed in {SIGNATURE.uri}")
    assert "Normal Signed" in scene.events
    assert scene.phase() == "Deploying"


def test_a_step_in_the_list_runs_on_a_laptop_after_the_steps_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FineTunedModel.model_validate(resource())
    planned = plan("support-bot", model.spec, facts())
    assert isinstance(planned, Planned)
    merged = SIGNATURE.model_copy(update={"key": "merge-1", "uri": "s3://artifacts/built/merge-1"})
    ran: list[tuple[str, str]] = []

    def run_command(step: str, _arguments: list[str], command: str, _python: str) -> Report:
        ran.append((step, command))
        artifact = SIGNATURE if step == "sign" else merged
        verification = verified_report().verification if step == Step.VERIFY else None
        return report(Step.MERGE, "Done", artifact=artifact, verification=verification)

    monkeypatch.setattr(local, "run_command", run_command)
    assert local.build(model, facts(), planned, WITH_SIGN) == (merged,)
    assert ran == [("merge", "merge"), ("verify", "verify"), ("sign", "sign")]


def test_each_step_that_a_job_does_has_settings_of_its_own() -> None:
    assert list(StepsSettings.model_fields) == [step.name for step in STEPS if isinstance(step, JobStep)]
