"""Runs llama.cpp's own programs, of one pinned build: the converter, the quantizer and the one for importances.

They run as children with an environment of their own: no credentials, no network for Python's model libraries, no
folder but the scratch one. The size of what they write tells their progress. Their log goes to a file, and a failure
shows its end.
"""

import ast
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.errors import Failed, InvalidInput, Reason, StepError
from ftm_jobs.runtime.limits import processors
from ftm_jobs.runtime.out_of_memory import says_out_of_memory
from ftm_jobs.runtime.progress import Progress

_LOG = logging.getLogger(__name__)

VARIABLE = "FTM_LLAMA_CPP"
INSTALLED = Path("/opt/llama.cpp")
"""The folder that images have."""
LARGEST_BUFFER_MIB = 256
"""Mebibytes of a tensor's rows that the quantizer keeps in memory; more is no faster."""
POLL_SECONDS = 0.1
SHOWN_LINES = 40
"""Lines of a failed program's log that the Job's log has."""
IMPORTANCE_CONTEXT = 512

_DISK_FULL = ("No space left on device", "iostream error", "Disk quota exceeded")
_NOT_HANDED_ON = ("AWS_", "HF_", "PYTHON", "LD_")


@dataclass(frozen=True)
class LlamaCpp:
    """A build, as images/llama.cpp/build.sh lays it out."""

    folder: Path

    @property
    def version(self) -> str:
        return (self.folder / "VERSION").read_text().strip()

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def known_architectures(self) -> list[str]:
        """Lists the architectures of the converter's registry, which is read and not run."""
        tree = ast.parse((self.folder / "convert/conversion/__init__.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TEXT_MODEL_MAP" and node.value:
                return sorted(ast.literal_eval(node.value))
        raise Failed(Reason.INTERNAL_ERROR, f"{self.folder} has a converter without TEXT_MODEL_MAP: build it again")

    def convert(self, model: Path, to: Path, outtype: str, expected_bytes: int) -> None:
        """Converts a model's folder to one GGUF file of 16- or 32-bit weights, tensor by tensor.

        Raises InvalidInput (UnsupportedModel) in the converter's own words when it cannot read the model.
        """
        script = self.folder / "convert/convert_hf_to_gguf.py"
        command = [sys.executable, "-s", str(script), str(model), "--outfile", str(to), "--outtype", outtype]
        done = _run([*command, "--model-name", "model"], "convert", to, expected_bytes)
        if done.code:
            raise done.failure() or InvalidInput(
                Reason.UNSUPPORTED_MODEL,
                f"llama.cpp's converter cannot read the model: {done.last_words}; serve it with vLLM, unquantized or "
                "as AWQ",
            )

    def convert_adapter(self, base: Path, adapter: Path, to: Path, expected_bytes: int) -> None:
        """Converts an adapter's folder to one GGUF file of 32-bit numbers; of the base its config is read alone.

        Raises InvalidInput (UnsupportedModel) in the converter's own words when it cannot read one of them.
        """
        script = self.folder / "convert/convert_lora_to_gguf.py"
        if not script.exists():
            raise Failed(Reason.INTERNAL_ERROR, f"{self.folder} has no {script.name}: run `make llama-cpp`")
        command = [sys.executable, "-s", str(script), str(adapter), "--base", str(base), "--outfile", str(to)]
        done = _run([*command, "--outtype", "f32"], "convert", to, expected_bytes)
        if done.code:
            raise done.failure() or InvalidInput(
                Reason.UNSUPPORTED_MODEL,
                f"llama.cpp's converter cannot read the adapter: {done.last_words}; serve its base with vLLM, or set "
                "mode to Merged",
            )

    def importances(self, model: Path, text: Path, to: Path) -> None:
        """Measures on a text how much each column of each weight matters. Raises Failed and InvalidInput."""
        command = [str(self.program("llama-imatrix")), "--model", str(model), "--file", str(text)]
        command += ["--output-file", str(to), "--ctx-size", str(IMPORTANCE_CONTEXT), "--no-ppl", "--parse-special"]
        done = _run([*command, "--threads", str(processors())], "importance", to, 0)
        if "you need at least" in done.log:
            raise InvalidInput(
                Reason.INVALID_CALIBRATION,
                f"the calibration text has fewer than {2 * IMPORTANCE_CONTEXT} tokens: write more samples, some 64",
            )
        done.check("llama-imatrix")

    def quantize(self, model: Path, to: Path, type: str, expected_bytes: int, importances: Path | None) -> str:
        """Quantizes the file to another type, and returns the quantizer's log. Raises Failed."""
        command = [str(self.program("llama-quantize")), "--max-buffer-size", str(LARGEST_BUFFER_MIB)]
        command += ["--imatrix", str(importances)] if importances else []
        done = _run([*command, str(model), str(to), type, str(processors())], "quantize", to, expected_bytes)
        done.check("llama-quantize")
        return done.log


def find_llama_cpp() -> LlamaCpp:
    """Returns the build that $FTM_LLAMA_CPP names, the image's, or the user's own. Raises Failed without one."""
    named = os.environ.get(VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ftm-operator/llama.cpp/current")
    for folder in [Path(named)] if named else [INSTALLED, cache]:
        if (folder / "bin/llama-quantize").exists() and (folder / "convert/convert_hf_to_gguf.py").exists():
            return LlamaCpp(folder.resolve())
    raise Failed(
        Reason.INTERNAL_ERROR,
        f"llama.cpp is not in {named or f'{INSTALLED} or {cache}'}: run `make llama-cpp`, use the image "
        f"ftm-quantize-gguf, or name a build in {VARIABLE}",
    )


@dataclass(frozen=True)
class FinishedProgram:
    """The exit code and the log of a program."""

    code: int
    log: str

    @property
    def last_words(self) -> str:
        """Returns the line that tells the cause: a Python traceback's last, or an error's."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or "not supported" in line.lower()]
        last = (lines if "Traceback" in self.log else errors or lines)[-1:] or ["it said nothing"]
        return last[0][:300]

    def failure(self) -> StepError | None:
        """Returns the failure that a retry may cure; None for others."""
        if self.code == -signal.SIGKILL or says_out_of_memory(self.log):
            return Failed(Reason.OUT_OF_MEMORY, "memory ran out")
        if any(words in self.log for words in _DISK_FULL):
            return Failed(Reason.DISK_FULL, "no space left on the disk")
        return None

    def check(self, program: str) -> None:
        """Raises Failed unless the program succeeded."""
        if self.code:
            how = f"was ended by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with {self.code}"
            raise self.failure() or Failed(Reason.INTERNAL_ERROR, f"{program} {how}: {self.last_words}")


def _run(command: Sequence[str], label: str, writes: Path, expected_bytes: int) -> FinishedProgram:
    """Runs a program to its end; it is killed when this process ends, whatever ends that."""
    progress = Progress(label, expected_bytes)
    with tempfile.TemporaryDirectory(dir=writes.parent) as home, Path(home, "log").open("w+b") as log:
        child = subprocess.Popen(
            [*_dies_with_its_parent(), *command],
            cwd=home,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            shown = 0
            while child.poll() is None:
                time.sleep(POLL_SECONDS)
                written = min(_size(writes), expected_bytes)
                progress.add(max(0, written - shown))
                shown = max(shown, written)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        log.seek(0)
        ended = FinishedProgram(child.returncode, log.read().decode(errors="replace"))
    if ended.code:
        _LOG.error("%s", "\n".join(ended.log.splitlines()[-SHOWN_LINES:]))
    else:
        progress.add(expected_bytes - shown)
        progress.close()
    return ended


def _environment(home: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_ON)}
    threads = str(processors())
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    own = {"HOME": home, "HF_HOME": home, "TMPDIR": home, "OMP_NUM_THREADS": threads, "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | offline | own


def _dies_with_its_parent() -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
