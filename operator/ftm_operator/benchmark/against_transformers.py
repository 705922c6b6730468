"""Measures the same prompts by plain transformers generation on this machine, in a process of its own."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftm_operator.benchmark.figures import Figures, RequestTimes
from ftm_operator.benchmark.prompts import BenchmarkPrompt
from ftm_operator.local.errors import LocalError
from ftm_operator.local.processes import running

MODULE = "ftm_operator.benchmark.plain_transformers"
NEEDED = ("torch", "transformers")
STOP_SECONDS = 5


def check_installed() -> None:
    """Raises LocalError naming the package that is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalError(
            f"--against hf needs {' and '.join(missing)}, not installed here; install ftm-operator[quantize-gguf], "
            "which has both"
        )


def run_plain(
    folder: Path,
    prompts: Sequence[BenchmarkPrompt],
    *,
    completions: bool,
    ignore_eos: bool,
    progress: Callable[[Sequence[RequestTimes], int], None],
) -> Figures:
    """Returns what greedy generation took, one prompt after the other. Raises LocalError with the library's words."""
    check_installed()
    asked = {
        "model": str(folder),
        "ignore_eos": ignore_eos,
        "prompts": [
            {
                "text": each.text,
                "messages": None if completions else each.as_messages,
                "most_tokens": each.most_tokens,
            }
            for each in prompts
        ],
    }
    ended: list[RequestTimes] = []
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as log,
        running(
            [sys.executable, "-m", MODULE], STOP_SECONDS, stdin=pipe, stdout=pipe, stderr=log, text=True
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError), process.stdin as stdin:
            json.dump(asked, stdin)
        for line in process.stdout:
            ended.append(_request_times(json.loads(line)))
            progress(ended, 1)
        code = process.wait()
        log.seek(0)
        said = log.read().strip()
    if code or not ended:
        last = said.splitlines()[-1] if said else "it printed no reason"
        raise LocalError(f"transformers did not answer with {folder}, and ended with exit code {code}: {last}")
    return Figures(max(each.started + each.e2el for each in ended), tuple(ended))


def _request_times(told: dict[str, Any]) -> RequestTimes:
    return RequestTimes(
        "transformers",
        told["started"],
        chunks=tuple(told["chunks"]),
        input_tokens=told["input_tokens"],
        output_tokens=told["output_tokens"],
    )
