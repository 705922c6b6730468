"""Builds the first Job of a step for a test, without a pass."""

from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.job import Attempt, JobOwner, artifacts_source, job, job_identity
from ftm_operator.steps.inspect import INSPECT
from ftm_operator.steps.merge import MERGE
from ftm_operator.steps.step import JobStep, StepInputs, StepResult
from tests.unit.operator.objects import SETTINGS


def step_job(step: JobStep, inputs: StepInputs, attempt: int = 1) -> dict[str, Any]:
    identity = job_identity(inputs.model, step, step.input_hash(inputs), inputs.store)
    return job(
        JobOwner(inputs.model, inputs.model.spec.jobs), step.command(inputs), identity, Attempt(attempt, 1), SETTINGS
    )


def inspect_job(model: FineTunedModel, attempt: int = 1) -> dict[str, Any]:
    return step_job(INSPECT, _inputs(model), attempt)


def merge_job(model: FineTunedModel, facts: Facts) -> dict[str, Any]:
    return step_job(MERGE, _inputs(model).with_result(INSPECT.name, StepResult(facts=facts)))


def _inputs(model: FineTunedModel) -> StepInputs:
    store = artifacts_source(model, SETTINGS)
    assert store
    return StepInputs(model, store)
