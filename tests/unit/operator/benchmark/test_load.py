"""Requests to a real server that streams: what they take is noted, and each way to fail has its kind."""

from collections.abc import Sequence
from typing import Any

import pytest

from ftm_operator.benchmark.figures import RequestTimes
from ftm_operator.benchmark.load import RequestLoad, arrivals, run
from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.benchmark.streaming import RequestSettings
from ftm_operator.local.errors import LocalError
from tests.unit.operator.benchmark.server import END, ROLE, ROLE_AT_END, USAGE, WHOLE, streaming_server, token

PROMPT = BenchmarkPrompt("Where?", None, 5)
ABORTED = {"choices": [{"delta": {}, "finish_reason": "abort"}]}
"""vLLM's last chunk for a request that comes while it shuts down."""


def silent(_: Sequence[RequestTimes], __: int) -> None:
    """Shows no progress."""


async def one(**settings: Any) -> RequestTimes:
    """Returns one request to a server with these settings."""
    timeout = settings.pop("timeout", 30.0)
    async with streaming_server(**settings) as server:
        found = await run(
            RequestSettings(server.url, timeout_seconds=timeout), ["bot"], [], [PROMPT], RequestLoad(1), silent
        )
    return found.requests[0]


async def test_a_request_is_greedy_streamed_and_asks_for_its_usage() -> None:
    async with streaming_server() as server:
        settings = RequestSettings(server.url, ignore_eos=True)
        await run(settings, ["bot"], [], [PROMPT], RequestLoad(1), silent)
        await run(RequestSettings(server.url, completions=True), ["bot"], [], [PROMPT], RequestLoad(1), silent)
    common = {
        "model": "bot",
        "max_tokens": 5,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    message = {"role": "user", "content": "Where?"}
    assert server.asked == [
        ("/v1/chat/completions", {**common, "messages": [message], "ignore_eos": True}),
        ("/v1/completions", {**common, "prompt": "Where?"}),
    ]


async def test_tokens_are_the_endpoints_own_count_and_the_first_is_no_chunk_of_the_role_alone() -> None:
    found = await one(events=(ROLE, 0.2, *WHOLE[1:]))
    assert (found.error, found.input_tokens, found.output_tokens, found.is_counted) == (None, 7, 3, True)
    assert len(found.chunks) == 3, "two with text, and the end"
    assert found.ttft >= 0.2


async def test_an_answer_without_usage_has_as_many_tokens_as_chunks_and_says_so() -> None:
    found = await one(events=(ROLE, token("a"), token("b"), END))
    assert (found.error, found.output_tokens, found.is_counted) == (None, 3, False)


async def test_an_answer_without_text_has_the_times_of_its_chunks() -> None:
    found = await one(events=(ROLE, ROLE_AT_END, USAGE))
    assert (found.error, len(found.chunks)) == (None, 2)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"status": 500}, "Status500", "no such model"),
        ({"status": 404}, "Status404", "no such model"),
        ({"events": (ROLE, token("a"), None)}, "Disconnected", ""),
        ({"events": (ROLE, token("a"))}, "Disconnected", "the stream ended before the answer did"),
        ({"events": (ROLE, token("a"), {"error": {"message": "out of memory"}}, "[DONE]")}, "ErrorInStream", "memory"),
        ({"events": (ROLE, token("a"), ABORTED, "[DONE]")}, "Aborted", "ended the answer before it was whole"),
        ({"events": (USAGE, "[DONE]")}, "NoToken", "the answer has no token"),
        ({"events": (b"data: {\n\n",)}, "NoEventStream", "cannot be read"),
        ({"events": ("[]",)}, "NoEventStream", "an event is no JSON object"),
        ({"events": ({"choices": ["Lyon"]},)}, "NoEventStream", "cannot be read"),
        ({"events": (token("a"), 5.0), "timeout": 0.2}, "TimedOut", "no whole answer in 0.2 s"),
    ],
)
async def test_each_way_to_fail_has_a_kind(settings: dict[str, Any], kind: str, message: str) -> None:
    found = await one(**settings)
    assert found.error
    assert found.error.kind == kind
    assert message in found.error.message


async def test_an_endpoint_that_is_not_there_is_not_reached() -> None:
    found = await run(RequestSettings("http://127.0.0.1:1"), ["bot"], [], [PROMPT], RequestLoad(1), silent)
    assert found.errors == {"NotReached": 1}


async def test_there_are_never_more_requests_at_once_than_asked_for_and_models_take_turns() -> None:
    told: list[int] = []
    async with streaming_server(events=(token("a"), 0.01, *WHOLE)) as server:
        await run(
            RequestSettings(server.url),
            ["one", "two"],
            [],
            [PROMPT] * 9,
            RequestLoad(3),
            lambda ended, _: told.append(len(ended)),
        )
    assert server.most_in_flight == 3
    assert sorted(body["model"] for _, body in server.asked) == ["one"] * 5 + ["two"] * 4
    assert told[-1] == 9


async def test_requests_at_a_rate_wait_neither_for_each_other_nor_come_at_once() -> None:
    async with streaming_server(events=(token("a"), 0.3, *WHOLE)) as server:
        found = await run(RequestSettings(server.url), ["bot"], [], [PROMPT] * 4, RequestLoad(None, 20.0), silent)
    assert server.most_in_flight > 1
    assert [each.started >= at for each, at in zip(found.requests, arrivals(4, 20.0, 0), strict=True)] == [True] * 4


def test_random_arrivals_end_after_as_many_seconds_as_the_rate_says() -> None:
    times = arrivals(50, 10.0, seed=3)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(5.0)
    assert times != arrivals(50, 10.0, seed=4)
    assert arrivals(2, None, 0) == [0.0, 0.0]


async def test_a_warm_up_that_fails_ends_the_benchmark_before_it_begins() -> None:
    async with streaming_server(status=401) as server:
        with pytest.raises(LocalError, match="gave no answer of bot: Status401: no such model"):
            await run(RequestSettings(server.url), ["bot"], [PROMPT] * 2, [PROMPT] * 5, RequestLoad(1), silent)
    assert len(server.asked) == 2


async def test_the_warm_up_is_not_measured() -> None:
    async with streaming_server() as server:
        found = await run(RequestSettings(server.url), ["bot"], [PROMPT] * 2, [PROMPT] * 5, RequestLoad(1), silent)
    assert (len(server.asked), len(found.requests)) == (7, 5)
