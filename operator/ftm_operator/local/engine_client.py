"""Asks a served model over HTTP, as any client of an OpenAI-compatible endpoint does."""

from dataclasses import dataclass

import httpx2

from ftm_operator.local.errors import LocalError

HEALTH_SECONDS = 5
ANSWER_SECONDS = 600
ANSWER_TOKENS = 256
SHOWN_CHARACTERS = 500
"""The length at which an endpoint's own words are cut in an error."""


class NoAnswer(LocalError):
    """The endpoint did not answer a question; the text says why."""


@dataclass(frozen=True)
class EngineClient:
    """The endpoint of one served model, which is asked without a proxy."""

    url: str
    """The address, without /v1 behind it."""
    model_name: str

    def is_ready(self) -> bool:
        """Returns whether the engine says that it can answer questions."""
        try:
            return httpx2.get(f"{self.url}/health", timeout=HEALTH_SECONDS, trust_env=False).is_success
        except httpx2.TransportError:
            return False

    def ask(self, question: str, most_tokens: int = ANSWER_TOKENS) -> str:
        """Returns the greedy answer to one question. Raises NoAnswer."""
        body = {
            "model": self.model_name,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": most_tokens,
        }
        path = f"{self.url}/v1/chat/completions"
        try:
            response = httpx2.post(path, json=body, timeout=ANSWER_SECONDS, trust_env=False)
        except httpx2.TransportError as error:
            raise NoAnswer(f"{self.url} did not answer {question!r}: {error or type(error).__name__}") from error
        if not response.is_success:
            said = response.text[:SHOWN_CHARACTERS]
            raise NoAnswer(f"{self.url} refused {question!r} with status {response.status_code}: {said}")
        answer: str = response.json()["choices"][0]["message"]["content"]
        return answer
