"""Watches go on while a kind that discovery tells of is not served."""

from collections.abc import AsyncIterator
from typing import Any

import kopf
import pytest
from kopf._cogs.clients import errors, watching
from kopf._cogs.structs.references import Resource

from ftm_operator.resources.serving.leader_worker_set import API_VERSION, PLURAL
from ftm_operator.runtime import handlers

GROUP, VERSION = API_VERSION.split("/")
RESOURCE = Resource(GROUP, VERSION, PLURAL)
EVENT = {"type": None, "object": {"metadata": {"name": "a"}}}


class Stream:
    """Stands in for kopf's watch of an API server that finds the kind only at the third request."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, **_: Any) -> AsyncIterator[Any]:
        self.requests += 1
        if self.requests < 3:
            raise errors.APINotFoundError(None, status=404, headers={})
        yield EVENT


async def first_event() -> Any:
    return await anext(watching.infinite_watch(settings=kopf.OperatorSettings(), resource=RESOURCE, namespace=None))


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    made = Stream()
    monkeypatch.setattr(handlers, "NOT_FOUND_SECONDS", 0)
    monkeypatch.setattr(watching, "continuous_watch", made)
    return made


@pytest.mark.usefixtures("stream")
async def test_a_kind_that_is_told_of_before_it_is_served_is_watched_again(caplog: pytest.LogCaptureFixture) -> None:
    with handlers.patient_watches():
        assert await first_event() == EVENT
    sentence = "leaderworkersets.v1.leaderworkerset.x-k8s.io is not served, or not yet: it is watched again"
    assert caplog.messages == [sentence, sentence]


@pytest.mark.usefixtures("stream")
async def test_kopf_itself_ends_at_it() -> None:
    with handlers.patient_watches():
        pass
    with pytest.raises(errors.APINotFoundError):
        await first_event()
