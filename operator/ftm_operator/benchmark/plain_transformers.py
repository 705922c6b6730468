"""Answers prompts by plain transformers generation, one after the other, for `ftm bench --against hf`.

Runs as a process of its own: reads one JSON object from stdin, {"model": FOLDER, "ignore_eos": bool, "prompts":
[{"text" or "messages", "most_tokens"}]}, and prints a line of JSON for each prompt: {"started", "chunks",
"input_tokens", "output_tokens"}, in seconds. The first prompt is answered once before, and not told of.
"""

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer


class _TokenTimes(BaseStreamer):  # type: ignore[no-untyped-call, unused-ignore]
    """Notes when each token comes; the first call is about the prompt."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._is_prompt = True
        self.times: list[float] = []

    def put(self, value: Any) -> None:  # noqa: ARG002 - the name is the library's
        if not self._is_prompt:
            self.times.append(time.perf_counter() - self._began)
        self._is_prompt = False

    def end(self) -> None:
        """Has nothing to flush."""


def main() -> None:
    """Answers all prompts of stdin."""
    asked = json.load(sys.stdin)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer: Any = AutoTokenizer.from_pretrained(asked["model"])
    model: Any = AutoModelForCausalLM.from_pretrained(asked["model"], dtype="auto")
    model.to(device).eval()
    prompts = asked["prompts"]
    _answer(model, tokenizer, prompts[0], asked["ignore_eos"])
    began = time.perf_counter()
    for prompt in prompts:
        started = time.perf_counter() - began
        print(json.dumps({"started": started, **_answer(model, tokenizer, prompt, asked["ignore_eos"])}), flush=True)


def _answer(model: Any, tokenizer: Any, prompt: dict[str, Any], ignore_eos: bool) -> dict[str, Any]:
    started = time.perf_counter()
    if prompt["messages"] is None:
        encoded = tokenizer(prompt["text"], return_tensors="pt")
    else:
        encoded = tokenizer.apply_chat_template(
            prompt["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    encoded = encoded.to(model.device)
    streamer = _TokenTimes(started)
    most = prompt["most_tokens"]
    with torch.inference_mode():
        model.generate(
            **encoded,
            do_sample=False,
            max_new_tokens=most,
            min_new_tokens=most if ignore_eos else None,
            streamer=streamer,
        )
    return {
        "chunks": streamer.times,
        "input_tokens": int(encoded["input_ids"].shape[1]),
        "output_tokens": len(streamer.times),
    }


if __name__ == "__main__":
    main()
