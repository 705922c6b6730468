"""The table of docs/reference/sizing.md: what is predicted of each start in vllm_logs.yaml, and what vLLM logged.

`python -m tests.unit.operator.planning.measured_table` writes it anew.
"""

from collections.abc import Iterator
from pathlib import Path

from ftm_jobs.contract.byte_counts import GIB
from tests.unit.operator.planning.vllm_logs import LOGS, Log

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "sizing.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEAD = (
    "| start | GPU | version | weights, GiB | logged | KV cache, GiB | logged | tokens | logged | starts | started |\n"
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
)


def table() -> str:
    """All rows, with a line for what may be compared of none."""
    return "\n".join([HEAD, *(f"| {' | '.join(_cells(log))} |" for log in LOGS)])


def _cells(log: Log) -> Iterator[str]:
    fields, memory, compared = log.fields, log.memory, log.fields["compare"]
    gpus = fields["tp"] * fields["pp"]
    yield log.name
    yield f"{gpus} x {fields['gpu']}" if gpus > 1 else fields["gpu"]
    yield fields["vllm_version"]
    yield from _pair(memory.loaded / GIB, log.logged.get("weights_gib") if "weights" in compared else None)
    sized = "kv_tokens" in compared
    yield from _pair(memory.left / GIB, log.logged["kv_gib"] if sized else None)
    predicted = memory.cache.tokens(memory.left, fields["max_model_len"])
    yield from (f"{predicted}", f"{log.tokens:.0f}") if sized else ("", "")
    yield from ("yes" if each else "no" for each in (log.starts, log.started)) if "verdict" in compared else ("", "")


def _pair(predicted: float, logged: float | None) -> tuple[str, str]:
    return ("", "") if logged is None else (f"{predicted:.2f}", f"{logged:.2f}")


def on_the_page() -> str:
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
