"""Asks vLLM over HTTP: which adapters it holds, to load and unload them, and to measure and answer with them.

An error that may pass is Failed (EngineUnavailable); one in the engine's own words is EngineError, or InvalidInput
where the engine says that the request is wrong (EngineRefused).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from ftm_jobs.contract.mounts import GUARD_HEADER
from ftm_jobs.contract.run_time_adapters import WantedPrompt
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.serve.guard import MOVE_HEADER
from ftm_jobs.serve.trials import EngineError

HEALTH_SECONDS = 2.0
LIST_SECONDS = 15.0
LOAD_SECONDS = 120.0
ANSWER_SECONDS = 300.0
ANSWER_TOKENS = 64
"""The verify step asks for as many."""
LIKELIEST = 10
"""Next tokens whose log-probabilities are compared; vLLM tells 20 at most unless it is told otherwise."""
_MAY_PASS = {408, 425, 429, 502, 503, 504}
_LONGEST_WORDS = 500
_OF_A_WORKER = re.compile(r"Worker failed with error ['\"](.+)['\"], please check the stack trace")
"""The words that vLLM puts around what its worker says, where that has a process of its own."""
_OF_A_CALL = re.compile(r"^Call to \w+ method failed: ")
"""The words before those of an engine of one GPU, which has no process for a worker."""


class VllmClient:
    """A vLLM server behind its guard. Safe to use from several threads."""

    def __init__(self, url: str, secret: str) -> None:
        headers = {GUARD_HEADER: secret}
        self._url = url.rstrip("/")
        self._http = httpx2.Client(base_url=self._url, headers=headers, trust_env=False)

    def __enter__(self) -> "VllmClient":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._http.close()

    def is_up(self) -> bool:
        """Returns True if it answers now that it is healthy."""
        try:
            return self._http.get("/health", timeout=HEALTH_SECONDS).status_code == 200
        except httpx2.HTTPError:
            return False

    def folders(self) -> dict[str, str]:
        """Returns the folder of each adapter that it holds, by name."""
        models = self._json("GET", "/v1/models", None, LIST_SECONDS)["data"]
        return {model["id"]: model["root"] for model in models if model.get("parent")}

    def load(self, name: str, folder: Path, *, ends_move: bool = False) -> None:
        """Makes it answer for `name` with the adapter in `folder`."""
        body = {"lora_name": name, "lora_path": str(folder)}
        self._send("POST", "/v1/load_lora_adapter", body, LOAD_SECONDS, "end" if ends_move else None)

    def unload(self, name: str, *, begins_move: bool = False) -> None:
        """Makes it answer for `name` no longer; that it did not is no error."""
        body = {"lora_name": name}
        try:
            self._send("POST", "/v1/unload_lora_adapter", body, LOAD_SECONDS, "begin" if begins_move else None)
        except UnknownName:
            return

    def next_tokens(self, model: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Returns for each text the log-probabilities of the likeliest next tokens, in nats; all texts in one batch.

        Those of the text's own tokens would say more with less, but vLLM's CPU build ends when it is asked for them
        with an adapter (`prompt_logprobs`: compute_logits has more rows than the adapters' mapping).
        """
        body = {"model": model, "prompt": list(texts), "max_tokens": 1, "temperature": 0.0, "logprobs": LIKELIEST}
        body["return_tokens_as_token_ids"] = True
        choices = self._json("POST", "/v1/completions", body, ANSWER_SECONDS)["choices"]
        ordered = sorted(choices, key=lambda choice: choice["index"])
        return [dict(choice["logprobs"]["top_logprobs"][0]) for choice in ordered]

    def answer(self, model: str, prompt: WantedPrompt) -> str:
        """Returns the greedy answer, by the chat template where the model has one."""
        settings = {"model": model, "max_tokens": ANSWER_TOKENS, "temperature": 0.0}
        messages = list(prompt.messages or ({"role": "user", "content": prompt.prompt or ""},))
        try:
            body = {**settings, "messages": messages}
            said = self._json("POST", "/v1/chat/completions", body, ANSWER_SECONDS)["choices"][0]["message"]["content"]
        except InvalidInput as error:
            if "chat template" not in error.message:
                raise
            body = {**settings, "prompt": "\n".join(message["content"] for message in messages)}
            said = self._json("POST", "/v1/completions", body, ANSWER_SECONDS)["choices"][0]["text"]
        return str(said or "")

    def _json(self, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> Any:
        try:
            return json.loads(self._send(method, path, body, seconds).content)
        except ValueError as error:
            raise self._unavailable(f"{path} did not answer with JSON") from error

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float, move: str | None = None
    ) -> httpx2.Response:
        headers = {MOVE_HEADER.decode(): move} if move else {}
        try:
            response = self._http.request(method, path, json=body, headers=headers, timeout=seconds)
        except httpx2.TimeoutException as error:
            raise self._unavailable(f"{path} did not answer within {seconds:g} s") from error
        except httpx2.HTTPError as error:
            raise self._unavailable(f"{path}: {str(error) or type(error).__name__}") from error
        if response.status_code == 200:
            return response
        words = _words(response)
        if response.status_code in _MAY_PASS:
            raise self._unavailable(f"{path} answers {response.status_code}: {words}")
        if response.status_code == 404:
            raise UnknownName(Reason.ENGINE_REFUSED, words)
        if response.status_code < 500:
            raise InvalidInput(Reason.ENGINE_REFUSED, words)
        raise EngineError(Reason.ENGINE_REFUSED, words)

    def _unavailable(self, words: str) -> Failed:
        return Failed(Reason.ENGINE_UNAVAILABLE, f"the engine at {self._url}: {words}")


class UnknownName(EngineError):
    """Says that the engine has no adapter of this name, or nothing in this folder."""


def _words(response: httpx2.Response) -> str:
    """Returns the engine's own sentence."""
    try:
        content = json.loads(response.content)
        error = content.get("error", content)
        words = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        words = response.text
    text = " ".join(str(words).split())
    if inner := _OF_A_WORKER.search(text):
        text = inner[1]
    text = _OF_A_CALL.sub("", text)
    return text[:_LONGEST_WORDS] or f"status {response.status_code}"
