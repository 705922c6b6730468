"""Asks a served model over HTTP, as any client of an OpenAI-compatible endpoint does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2

from ftm_operator.local.errors import LocalError
from ftm_operator.local.stream_events import UNREADABLE, read_event

Message = dict[str, str]
"""The role and the content of one message of a chat."""

HEALTH_SECONDS = 5
ANSWER_SECONDS = 600
ANSWER_TOKENS = 256
SHOWN_CHARACTERS = 500
"""The length at which an endpoint's own words are cut in an error."""


class NoAnswer(LocalError):
    """The endpoint did not answer a question; the text says why."""


@dataclass(frozen=True)
class ListedModel:
    """A model that an endpoint lists."""

    name: str
    """The value of `model` in requests for it."""
    parent: str | None = None
    """The model that it is an adapter to, as vLLM says it."""
    root: str | None = None
    """The folder or repository that it was loaded from."""


@dataclass(frozen=True)
class EngineClient:
    """The endpoint of one served model, which is asked without a proxy."""

    url: str
    """The address, without /v1 behind it."""
    model_name: str
    api_key: str | None = None
    adapter: int | None = None
    """The number by which llama.cpp knows the adapter that answers; None: `model_name` says who does."""

    def is_ready(self) -> bool:
        """Returns whether the engine says that it can answer questions."""
        try:
            return httpx2.get(f"{self.url}/health", timeout=HEALTH_SECONDS, trust_env=False).is_success
        except httpx2.TransportError:
            return False

    def ask(self, question: str, most_tokens: int = ANSWER_TOKENS) -> str:
        """Returns the greedy answer to one question. Raises NoAnswer."""
        body = self._body([{"role": "user", "content": question}], most_tokens, 0)
        try:
            response = httpx2.post(
                self._path, json=body, headers=authorization(self.api_key), timeout=ANSWER_SECONDS, trust_env=False
            )
        except httpx2.TransportError as error:
            raise NoAnswer(f"{self.url} did not answer {question!r}: {error or type(error).__name__}") from error
        if not response.is_success:
            raise self._refusal(response, question)
        answer: str = response.json()["choices"][0]["message"]["content"]
        return answer

    def stream(self, messages: Sequence[Message], most_tokens: int, temperature: float) -> Iterator[str]:
        """Yields the answer to a conversation piece by piece. Raises NoAnswer."""
        question = messages[-1]["content"]
        body = {**self._body(messages, most_tokens, temperature), "stream": True}
        client = httpx2.Client(headers=authorization(self.api_key), timeout=ANSWER_SECONDS, trust_env=False)
        try:
            with client, client.stream("POST", self._path, json=body) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response, question)
                for line in response.iter_lines():
                    yield from self._pieces(line)
        except httpx2.TransportError as error:
            raise NoAnswer(f"{self.url} did not answer {question!r}: {error or type(error).__name__}") from error
        except UNREADABLE:
            raise NoAnswer(f"{self.url} answered {question!r} with no stream of a chat") from None

    def _pieces(self, line: str) -> Iterator[str]:
        event = read_event(line.encode()) or {}
        if error := event.get("error"):
            said = error.get("message") if isinstance(error, dict) else error
            raise NoAnswer(f"{self.url} stopped answering: {said}")
        if choices := event.get("choices"):
            yield choices[0]["delta"].get("content") or ""

    @property
    def _path(self) -> str:
        return f"{self.url}/v1/chat/completions"

    def _body(self, messages: Sequence[Message], most_tokens: int, temperature: float) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": most_tokens,
            **({} if self.adapter is None else {"lora": [{"id": self.adapter, "scale": 1}]}),
        }

    def _refusal(self, response: httpx2.Response, question: str) -> NoAnswer:
        said = response.text[:SHOWN_CHARACTERS]
        return NoAnswer(f"{self.url} refused {question!r} with status {response.status_code}: {said}")


def served_models(url: str, api_key: str | None) -> tuple[ListedModel, ...]:
    """Returns the models that an endpoint lists, at least one. Raises NoAnswer."""
    path = f"{url}/v1/models"
    try:
        response = httpx2.get(path, headers=authorization(api_key), timeout=ANSWER_SECONDS, trust_env=False)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise NoAnswer(f"{path} cannot be reached: {error or type(error).__name__}") from error
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        raise NoAnswer(f"{path} asks for a key; set OPENAI_API_KEY to it")
    if not response.is_success:
        raise NoAnswer(f"{path} answered with status {response.status_code}: {response.text[:SHOWN_CHARACTERS]}")
    try:
        models = tuple(_listed_model(each) for each in response.json()["data"])
    except (ValueError, TypeError, LookupError):
        raise NoAnswer(f"{path} answered with no list of models; name an OpenAI-compatible endpoint") from None
    if not models:
        raise NoAnswer(f"{path} lists no model")
    return models


def authorization(api_key: str | None) -> dict[str, str]:
    """Returns the header that carries a key, if there is one."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _listed_model(listed: dict[str, Any]) -> ListedModel:
    return ListedModel(str(listed["id"]), listed.get("parent"), listed.get("root"))
