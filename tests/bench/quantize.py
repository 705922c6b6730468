"""`make bench-quantize`: what each way of quantizing costs, weighs and loses, on a real and on a generated model.

Prints a table per model, then one JSON line. Seconds, processor seconds and the largest process's peak memory are of
the whole step, imports included. `bits` are the file's per weight, `formats` what the storage formats add up to without
header and vocabulary. Divergence (mean, nats per token), the share of tokens whose most probable successor stays the
same, and perplexity are llama-perplexity's, against the same model in 16 bits, on the bundled calibration text; AWQ's
are quantize_awq.py's. The engine of AWQ has an environment of its own, 5 GB in the user's cache.
The generated model has random weights and widths that suit every type: its divergence says little, its costs do.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.quantize.gguf.file_types import STORAGE, TYPES, stored_bytes
from ftm_jobs.quantize.gguf.header import read_gguf
from ftm_jobs.quantize.gguf.llama_cpp import LlamaCpp, find_llama_cpp
from ftm_jobs.runtime.limits import processors
from tests import assets
from tests.awq.environments import jobs_environment, python_of
from tests.bench import quantize_awq

REFERENCE = "BF16"
AWQ = "AWQ"
MEAN_DIVERGENCE = re.compile(r"Mean\s+KLD:\s*([0-9.]+)")
SAME_TOP = re.compile(r"Same top p:\s*([0-9.]+)")
PERPLEXITY = re.compile(r"Mean PPL\(Q\)\s*:\s*([0-9.]+)")
CONTEXT = 512


@dataclass(frozen=True)
class Row:
    model: str
    method: str
    seconds: float
    processor_seconds: float
    peak_rss_bytes: int
    file_bytes: int
    bits_per_weight: float
    formats_bits_per_weight: float
    tensors_fallen_back: int
    divergence: float | None = None
    same_top: float | None = None
    perplexity: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*TYPES, AWQ]
    parser.add_argument("--types", nargs="+", choices=every, default=every, metavar="TYPE", help="default: all")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL", help="default: all"
    )
    parser.add_argument("--chunks", type=int, default=8, help=f"of {CONTEXT} tokens to measure on (default 8)")
    parsed = parser.parse_args()
    rows: list[Row] = []
    with _folder() as work:
        for name in parsed.models:
            model = MODELS[name](work)
            gguf = [type for type in parsed.types if type != AWQ]
            rows += measure(name, model, work, gguf, parsed.chunks) if gguf else []
            rows += [measure_awq(name, model, work, parsed.chunks)] if AWQ in parsed.types else []
    print_table(rows)
    print(json.dumps([asdict(row) for row in rows]), flush=True)


def measure(name: str, model: Path, work: Path, types: Sequence[str], chunks: int) -> list[Row]:
    """A row per type; the reference is made first."""
    ordered = [REFERENCE, *(type for type in types if type != REFERENCE)]
    compared = Compared(find_llama_cpp(), work, chunks)
    rows = []
    for type in ordered:
        print(f"bench: {name}, {type} …", file=sys.stderr, flush=True)
        row, file = _gguf(name, model, work / "store", type)
        rows.append(compared.with_losses(row, file))
        print(f"bench: {rows[-1]}", file=sys.stderr, flush=True)
    compared.forget()
    return rows


def measure_awq(name: str, model: Path, work: Path, chunks: int) -> Row:
    print(f"bench: {name}, AWQ …", file=sys.stderr, flush=True)
    own = work / f"awq-{name}"
    own.mkdir()
    command = ["awq", "--model", model.as_uri(), "--artifacts", own.as_uri()]
    command += ["--calibration", quantize_awq.calibration(own).as_uri()]
    report, seconds, processor_seconds, peak = run_step(
        *command, python=str(python_of("awq")), environment=jobs_environment()
    )
    assert report.artifact
    made = own / report.artifact.key
    weights = quantize_awq.stored(made)
    lost = quantize_awq.losses(model, made, calibration_text(), chunks * CONTEXT, CONTEXT, own)
    row = Row(
        name,
        AWQ,
        round(seconds, 1),
        round(processor_seconds, 1),
        peak,
        weights.file_bytes,
        bits_per_weight=round(8 * weights.file_bytes / weights.elements, 3),
        formats_bits_per_weight=round(8 * weights.format_bytes / weights.elements, 3),
        tensors_fallen_back=0,
        divergence=round(lost.kl, 6),
        same_top=round(100 * lost.same_top, 3),
        perplexity=round(lost.other_perplexity, 4),
    )
    print(f"bench: {row}", file=sys.stderr, flush=True)
    return row


def run_step(
    *arguments: str, python: str = sys.executable, environment: dict[str, str] | None = None
) -> tuple[Report, float, float, int]:
    """A step in a process of its own: its report, seconds, processor seconds and the largest process's peak memory."""
    begun = time.monotonic()
    child = subprocess.Popen(
        [python, "-m", "ftm_jobs", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    output, errors = _read_both(child)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        raise SystemExit(f"bench: {' '.join(arguments)} failed:\n{errors.decode()}\n{output.decode()}")
    report = Report.model_validate_json(output.splitlines()[-1])
    return report, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _read_both(child: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    """Without reaping it, so that what it used can be asked for."""
    assert child.stdout
    assert child.stderr
    with tempfile.TemporaryFile() as errors:
        copier = subprocess.Popen(["cat"], stdin=child.stderr, stdout=errors)
        output = child.stdout.read()
        copier.wait()
        errors.seek(0)
        return output, errors.read()


def _gguf(name: str, model: Path, store: Path, type: str) -> tuple[Row, Path]:
    command = ["gguf", "--model", model.as_uri(), "--artifacts", store.as_uri(), "--type", type]
    report, seconds, processor_seconds, peak = run_step(*command)
    assert report.artifact
    file = store / report.artifact.key / "model.gguf"
    header = read_gguf(file)
    elements = sum(weight.elements for weight in header.weights.values())
    arithmetic = sum(stored_bytes(tensor.weight, STORAGE[tensor.storage]) for tensor in header.tensors.values())
    fallen = json.loads((file.parent / "manifest.json").read_text())["measurements"]["tensorsFallenBack"]
    size = file.stat().st_size
    bits = round(8 * size / elements, 3), round(8 * arithmetic / elements, 3)
    return Row(name, type, round(seconds, 1), round(processor_seconds, 1), peak, size, *bits, fallen), file


@dataclass(frozen=True)
class Compared:
    """The reference's probabilities, and what others lose against them."""

    tools: LlamaCpp
    work: Path
    chunks: int

    @property
    def _kept(self) -> Path:
        return self.work / "reference.logits"

    def with_losses(self, row: Row, file: Path) -> Row:
        """The first file is the reference."""
        if not self._kept.exists():
            self._run(file)
        output = self._run(file, "--kl-divergence")
        found = [pattern.search(output) for pattern in (MEAN_DIVERGENCE, SAME_TOP, PERPLEXITY)]
        values = [float(match[1]) if match else None for match in found]
        return replace(row, divergence=values[0], same_top=values[1], perplexity=values[2])

    def forget(self) -> None:
        self._kept.unlink()

    def _run(self, file: Path, *flags: str) -> str:
        text = self.work / "text.txt"
        if not text.exists():
            text.write_text(calibration_text())
        command = [str(self.tools.program("llama-perplexity")), "--model", str(file), "--file", str(text)]
        command += ["--ctx-size", str(CONTEXT), "--chunks", str(self.chunks), "--threads", str(processors())]
        command += ["--kl-divergence-base", str(self._kept), *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return done.stdout + done.stderr


def calibration_text() -> str:
    samples = files("ftm_jobs").joinpath("data/calibration.jsonl").read_text("utf-8").splitlines()
    return "\n\n".join(_text(json.loads(sample)) for sample in samples)


def _text(sample: dict[str, object]) -> str:
    if "text" in sample:
        return str(sample["text"])
    messages = sample["messages"]
    assert isinstance(messages, list)
    return "\n".join(message["content"] for message in messages)


def print_table(rows: Sequence[Row]) -> None:
    for model in dict.fromkeys(row.model for row in rows):
        print(f"\n{model}")
        print(
            f"{'type':8} {'s':>6} {'CPU s':>6} {'peak':>8} {'size':>8} {'bits':>6} {'formats':>8} {'fallen':>6} "
            f"{'KL':>8} {'same':>6} {'PPL':>8}"
        )
        for row in (row for row in rows if row.model == model):
            print(
                f"{row.method:8} {row.seconds:6.1f} {row.processor_seconds:6.1f} {row.peak_rss_bytes / 1e6:5.0f} MB "
                f"{row.file_bytes / 1e6:5.0f} MB {row.bits_per_weight:6.2f} {row.formats_bits_per_weight:8.2f} "
                f"{row.tensors_fallen_back:6} {_shown(row.divergence, '8.4f')} {_shown(row.same_top, '5.1f')}% "
                f"{_shown(row.perplexity, '8.2f')}"
            )


def _shown(value: float | None, form: str) -> str:
    return format(value, form) if value is not None else "-".rjust(int(form.partition(".")[0]))


def _taught(work: Path) -> Path:
    made = assets.prepare()
    arguments = ["--base", made.base.as_uri(), "--adapter", made.adapter.as_uri()]
    report, *_ = run_step("merge", *arguments, "--artifacts", (work / "merged").as_uri())
    assert report.artifact
    return work / "merged" / report.artifact.key


def _generated(work: Path) -> Path:
    from transformers import LlamaConfig

    from tests.gguf.models import make_model

    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    return make_model(work / "generated", config)


MODELS = {"taught": _taught, "generated": _generated}
"""SmolLM2-135M with the adapter merged in, and a Llama of 0.2 B parameters."""


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ftm-bench-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
