"""Asks an engine by HTTP for log-probabilities, tokens and answers: vLLM's OpenAI API, and llama-server's own.

vLLM tells the log-probability of every token of a prompt, and the tokens that it made of a text or a conversation.
llama-server tells the likeliest next tokens alone, so it is asked at places where the reference's token is among them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx2

from ftm_jobs.contract.verification import ReferenceAnswer, ReferenceText, ServingEngine, question

ANSWER_SECONDS = 600.0
"""A CPU may take minutes for a text."""
HEALTH_SECONDS = 5.0
LIKELY = 1 / 32
"""A token with this probability is one of the 32 likeliest."""
LIKELIEST = 128
"""Tokens that llama-server is asked for at a place: four times as many as must hold the token by the reference."""
NOT_FINITE = "Out of range float values are not JSON compliant"
"""Python's words, with which vLLM answers 400 where a log-probability is infinite or not a number."""
PLACES = 128
"""Places at which llama-server is asked, at most; each takes a request."""


class EngineAway(Exception):
    """The engine does not answer: it starts, or it has ended."""


class EngineRefused(Exception):
    """The engine answers with an error."""


class Engine(Protocol):
    """Asks one engine. Every question raises EngineAway and EngineRefused."""

    def is_up(self) -> bool | None:
        """Says whether the engine is ready; None where it did not answer in time."""

    def differences(self, texts: Sequence[ReferenceText]) -> list[dict[int, float]]:
        """Returns differences to `logprobs`, in nats, by place; for each text."""

    def spell(self, text: str) -> list[int]:
        """Returns the tokens of a text, after those that begin one."""

    def write(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Returns the tokens of a conversation, up to the answer's first."""

    def answer(self, asked: ReferenceAnswer) -> str:
        """Returns the greedy answer."""


class _HttpEngine:
    """Sends requests to one engine, and reads OpenAI's answers."""

    def __init__(self, url: str, model: str, key: str | None) -> None:
        self._model = model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)

    def is_up(self) -> bool | None:
        try:
            return self._client.get("/health", timeout=HEALTH_SECONDS).status_code == httpx2.codes.OK
        except httpx2.TimeoutException:
            return None
        except httpx2.TransportError:
            return False

    def answer(self, asked: ReferenceAnswer) -> str:
        path = "/v1/completions" if asked.messages is None else "/v1/chat/completions"
        settings = {"model": self._model, "temperature": 0, "max_tokens": asked.most_tokens}
        choice = self._ask(path, settings | question(asked))["choices"][0]
        text = choice["text"] if asked.messages is None else choice["message"].get("content")
        return text if isinstance(text, str) else ""

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            answered = self._client.post(path, json=body)
        except httpx2.TransportError as error:
            raise EngineAway(f"POST {path}: {error or type(error).__name__}") from error
        if answered.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            raise EngineAway(f"POST {path} was answered with 503")
        if not answered.is_success:
            raise EngineRefused(f"POST {path} was answered with {answered.status_code}: {answered.text[:500]}")
        try:
            return answered.json()
        except ValueError as error:
            raise EngineRefused(f"POST {path} was answered with no JSON: {answered.text[:200]}") from error


class VllmEngine(_HttpEngine):
    """Asks vLLM's OpenAI-compatible server."""

    def differences(self, texts: Sequence[ReferenceText]) -> list[dict[int, float]]:
        return [self._of_text(text) for text in texts]

    def spell(self, text: str) -> list[int]:
        body = {"model": self._model, "prompt": text, "max_tokens": 1, "return_token_ids": True}
        tokens: list[int] = self._ask("/v1/completions", body)["choices"][0]["prompt_token_ids"]
        return tokens

    def write(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        body = {"model": self._model, "messages": list(messages), "max_tokens": 1, "return_token_ids": True}
        tokens: list[int] = self._ask("/v1/chat/completions", body)["prompt_token_ids"]
        return tokens

    def _of_text(self, text: ReferenceText) -> dict[int, float]:
        body = {"model": self._model, "prompt": list(text.tokens), "max_tokens": 1, "prompt_logprobs": 0}
        try:
            told = self._ask("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        except EngineRefused as error:
            if NOT_FINITE not in str(error):
                raise
            return dict.fromkeys(range(len(text.tokens) - 1), math.nan)
        return {
            place: float(told[place + 1][str(token)]["logprob"]) - text.logprobs[place]
            for place, token in enumerate(text.tokens[1:])
        }


class LlamaServerEngine(_HttpEngine):
    """Asks llama.cpp's server by the paths that it has beside OpenAI's."""

    def differences(self, texts: Sequence[ReferenceText]) -> list[dict[int, float]]:
        found: list[dict[int, float]] = [{} for _ in texts]
        for number, place in asked_places(texts):
            found[number][place] = self._at(texts[number], place)
        return found

    def spell(self, text: str) -> list[int]:
        tokens: list[int] = self._ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})[
            "tokens"
        ]
        return tokens

    def write(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self.spell(self._ask("/apply-template", {"messages": list(messages)})["prompt"])

    def _at(self, text: ReferenceText, place: int) -> float:
        """Returns the difference at one place, or the least that it can be where the token is not among the likely."""
        body = {
            "prompt": list(text.tokens[: place + 1]),
            "n_predict": 1,
            "n_probs": LIKELIEST,
            "temperature": 0,
            "cache_prompt": True,
        }
        told = self._ask("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        likely = {each["id"]: float(each["logprob"]) for each in told}
        wanted = text.logprobs[place]
        if (given := likely.get(text.tokens[place + 1])) is not None:
            return given - wanted
        return min(0.0, min(likely.values()) - wanted)


def asked_places(texts: Sequence[ReferenceText]) -> list[tuple[int, int]]:
    """Returns at most PLACES pairs of a text's number and a place in it, from all over the texts, in their order."""
    likely = [
        (number, place)
        for number, text in enumerate(texts)
        for place, logprob in enumerate(text.logprobs)
        if logprob >= math.log(LIKELY)
    ]
    count = min(PLACES, len(likely))
    return [likely[number * len(likely) // count] for number in range(count)]


def open_engine(kind: ServingEngine, url: str, model: str, key: str | None) -> Engine:
    """Returns what asks an engine; `model` is its name in requests, `key` the one that requests must have."""
    return (VllmEngine if kind is ServingEngine.VLLM else LlamaServerEngine)(url, model, key)
