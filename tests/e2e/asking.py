"""Asks a served model a question by way of its OpenAI-compatible API."""

from collections.abc import Mapping
from types import MappingProxyType

import httpx2

ANSWER_SECONDS = 300
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def chat_answer(url: str, model: str, question: str, headers: Mapping[str, str] = NO_HEADERS) -> str:
    """Returns the greedy answer to a question. Raises HTTPError."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24}
    response = httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers=dict(headers), timeout=ANSWER_SECONDS, trust_env=False
    )
    response.raise_for_status()
    answer: str = response.json()["choices"][0]["message"]["content"]
    return answer
