"""Messages speak of what their reader can change: a Job's resource, or a person's environment."""

import pytest
from botocore.exceptions import NoCredentialsError

from ftm_jobs.contract.caller import CALLED_BY, PERSON
from ftm_jobs.runtime.caller import more_memory, take_the_new_one
from ftm_jobs.stores.s3_errors import explain


@pytest.fixture
def messages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    no_credentials = explain(NoCredentialsError(), "models", "s3://models/a").message
    return f"{no_credentials} {more_memory()} {take_the_new_one()}"


IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize("messages", [IN_A_POD], indirect=True)
def test_a_job_is_told_of_its_secret_and_its_resource(messages: str) -> None:
    assert "name a Secret with AWS_ACCESS_KEY_ID" in messages
    assert "spec.jobs.resources" in messages
    assert "annotation ftm.dev/refresh" in messages
    assert "AWS_PROFILE" not in messages


@pytest.mark.parametrize("messages", [{}, IN_A_POD | {CALLED_BY: PERSON}], indirect=True)
def test_a_person_is_told_of_the_environment_also_in_a_pod(messages: str) -> None:
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in messages
    assert not [word for word in ("Secret ", "annotation", "spec.", "pod") if word in messages]
