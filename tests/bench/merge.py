"""`make bench-merge`: a merge beside plain copies and beside PEFT, on the same generated model, in one run.

Prints a table, then one JSON line. Ours and a copy with sha256 run in turn, `--pairs` times, since a busy neighbour
slows both: their ratio is given as median, least and largest, beside the load of the machine when each pair began. The
rest runs `--runs` times, PEFT once; times are medians, with a warm page cache and what was written before already on
the disk. `seconds` are without imports, `total` is the whole process.
A local base is hashed once, when it is first merged: the row "base not seen before" includes that.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile
from ftm_jobs.contract.report import Report
from tests.bench.shapes import SIZES
from tests.cache import cache
from tests.servers.seaweedfs import ADMIN, ARTIFACTS, MODELS, Server, seaweedfs

GB = 1e9
CP = "cp"
CP_SHA256 = "cp, openssl dgst -sha256"
OURS = "ours, file to file"
OURS_NEW = "ours, base not seen before"
PEFT = "PEFT"
S3_COPY = "S3 to S3 copy by boto3"
OURS_S3 = "ours, S3 to S3"
_SIDES = sys.executable, "-m", "tests.bench.sides"


@dataclass(frozen=True)
class Process:
    output: str
    seconds: float
    peak_rss_bytes: int
    """The largest single process."""


@dataclass(frozen=True)
class Figures:
    name: str
    total_seconds: float
    seconds: float
    """Without imports."""
    peak_rss_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="1.1", help="billions of parameters (default 1.1)")
    parser.add_argument("--pairs", type=int, default=3, help="of ours and a copy with sha256, in turn (default 3)")
    parser.add_argument("--runs", type=int, default=1, help="of each other side but PEFT (default 1)")
    parsed = parser.parse_args()
    folder = Path(_run((sys.executable, "-m", "tests.bench.model", parsed.size)).output.strip())
    base, adapter = folder / "base", folder / "adapter"
    with _folder() as work:
        files = Files(base, adapter, work)
        pairs = files.pairs(parsed.pairs)
        figures = [*files.measure(parsed.runs), *medians_of(pairs), files.peft()]
        differing = files.differing_elements()
        with seaweedfs(work / "seaweedfs") as server:  # its own work would slow down what needs no store
            objects = Objects(base, adapter, server)
            figures += objects.measure(parsed.runs)
        assert files.merged == objects.merged, "merges of the same inputs differ"
    ratio = ratio_of(pairs)
    _print_table(figures, base, differing)
    print(
        f"ours / cp, openssl dgst -sha256: median {ratio.median:.2f}, from {ratio.least:.2f} to {ratio.largest:.2f} in "
        f"{len(pairs)} pairs; load {min(ratio.loads):.1f} to {max(ratio.loads):.1f} on {os.cpu_count()} processors"
    )
    print(json.dumps(_summary({figure.name: figure for figure in figures}, ratio, differing)), flush=True)


@dataclass(frozen=True)
class Pair:
    """A merge, and the copy that ran after it."""

    ours: Figures
    copy: Figures
    load: float
    """Processes that ran or waited to, on average over the minute before the pair began: the pair before included."""


@dataclass(frozen=True)
class Ratio:
    """Seconds of ours over those of the copy, over all pairs."""

    median: float
    least: float
    largest: float
    loads: tuple[float, ...]


def ratio_of(pairs: Sequence[Pair]) -> Ratio:
    ratios = [pair.ours.seconds / pair.copy.seconds for pair in pairs]
    return Ratio(median(ratios), min(ratios), max(ratios), tuple(pair.load for pair in pairs))


class Files:
    """Sides that need no store: one folder for each side's output, emptied before each run."""

    def __init__(self, base: Path, adapter: Path, work: Path) -> None:
        self._base, self._adapter, self._work = base, adapter, work
        self.merged: set[tuple[ManifestFile, ...]] = set()
        """The digest of each merge; one, when they are all the same."""

    def measure(self, runs: int) -> list[Figures]:
        return _medians(lambda: [self._cp(), self._ours_new()], runs)

    def pairs(self, count: int) -> list[Pair]:
        made = []
        for number in range(count):
            print(f"pair {number + 1} of {count} …", file=sys.stderr, flush=True)
            load = os.getloadavg()[0]
            made.append(Pair(self._ours(), self._cp_sha256(), load))
        return made

    def peft(self) -> Figures:
        self._run(sys.executable, "-c", "import peft, transformers")  # warm, as what ours imports is by now
        done = self._run(*_SIDES, "peft", str(self._base), str(self._adapter), str(self._fresh("peft")))
        return Figures(PEFT, done.seconds, _seconds(done), done.peak_rss_bytes)

    def differing_elements(self) -> int:
        """Between ours and PEFT's, over all tensors."""
        compared = _run(
            (sys.executable, "-m", "tests.bench.compare", str(self._work / "ours"), str(self._work / "peft"))
        )
        for name in ("ours", "peft"):
            self._fresh(name)
        return int(compared.output)

    def _cp(self) -> Figures:
        done = self._run("cp", "-r", str(self._base), str(self._fresh("cp")))
        return Figures(CP, done.seconds, done.seconds, done.peak_rss_bytes)

    def _cp_sha256(self) -> Figures:
        script = 'cp -r "$1" "$2" && openssl dgst -sha256 "$2"/*'
        done = self._run("sh", "-c", script, "sh", str(self._base), str(self._fresh("cp")))
        self._fresh("cp")
        return Figures(CP_SHA256, done.seconds, done.seconds, done.peak_rss_bytes)

    def _ours(self) -> Figures:
        return self._merge(OURS, lambda: None)

    def _ours_new(self) -> Figures:
        """Times a base that this machine has never merged, so that it is hashed before for the artifact's key."""
        digests = self._work / "digests"
        return self._merge(
            OURS_NEW,
            lambda: shutil.rmtree(digests, ignore_errors=True),
            {"XDG_CACHE_HOME": str(digests)},
        )

    def _merge(self, name: str, before: Callable[[], None], environment: Mapping[str, str] | None = None) -> Figures:
        def merge(*program: str) -> Process:
            before()
            sources = "merge", "--base", self._base.as_uri(), "--adapter", self._adapter.as_uri()
            return self._run(*program, *sources, "--artifacts", self._fresh("ours").as_uri(), environment=environment)

        figures, artifact = _whole_and_inner(name, merge)
        manifest = Path(artifact.removeprefix("file://"), MANIFEST_NAME)
        self.merged.add(Manifest.model_validate_json(manifest.read_bytes()).files)
        return figures

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self._work / name, ignore_errors=True)
        return self._work / name

    def _run(self, *command: str, environment: Mapping[str, str] | None = None) -> Process:
        os.sync()
        for path in self._base.iterdir():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
        return _run(command, environment)


class Objects:
    """The same in S3, on a real server, whose own work is on this machine too."""

    def __init__(self, base: Path, adapter: Path, server: Server) -> None:
        self._server = server
        self._base = server.upload(MODELS, "base", base)
        self._adapter = server.upload(MODELS, "adapter", adapter)
        self.merged: set[tuple[ManifestFile, ...]] = set()

    def measure(self, runs: int) -> list[Figures]:
        return _medians(lambda: [self._copy(), self._ours()], runs)

    def _copy(self) -> Figures:
        done = self._run(*_SIDES, "s3-copy", self._base, self._fresh())
        return Figures(S3_COPY, done.seconds, _seconds(done), done.peak_rss_bytes)

    def _ours(self) -> Figures:
        def merge(*program: str) -> Process:
            sources = "merge", "--base", self._base, "--adapter", self._adapter
            return self._run(*program, *sources, "--artifacts", self._fresh())

        figures, artifact = _whole_and_inner(OURS_S3, merge)
        key = f"{artifact.removeprefix(f's3://{ARTIFACTS}/')}/{MANIFEST_NAME}"
        manifest = self._server.client().get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
        self.merged.add(Manifest.model_validate_json(manifest).files)
        return figures

    def _fresh(self) -> str:
        """In a bucket made anew, since the server gives back the disk of a bucket but not of its objects."""
        client = self._server.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=ARTIFACTS):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=ARTIFACTS, Key=found["Key"])
        client.delete_bucket(Bucket=ARTIFACTS)
        client.create_bucket(Bucket=ARTIFACTS)
        return f"s3://{ARTIFACTS}/bench"

    def _run(self, *command: str) -> Process:
        os.sync()
        return _run(command, self._server.secret(ADMIN))


def _medians(measure: Callable[[], list[Figures]], runs: int) -> list[Figures]:
    rounds = []
    for number in range(runs):
        print(f"round {number + 1} of {runs} …", file=sys.stderr, flush=True)
        rounds.append(measure())
    return [_median(same) for same in zip(*rounds, strict=True)]


def medians_of(pairs: Sequence[Pair]) -> list[Figures]:
    return [_median([pair.copy for pair in pairs]), _median([pair.ours for pair in pairs])]


def _median(same: Sequence[Figures]) -> Figures:
    return Figures(
        name=same[0].name,
        total_seconds=median(run.total_seconds for run in same),
        seconds=median(run.seconds for run in same),
        peak_rss_bytes=max(run.peak_rss_bytes for run in same),
    )


def _whole_and_inner(name: str, merge: Callable[..., Process]) -> tuple[Figures, str]:
    """A merge by the command as it is, and one that measures itself without imports; the latter's URI."""
    whole, inner = merge(sys.executable, "-m", "ftm_jobs"), merge(*_SIDES, "ours")
    artifact = Report.model_validate_json(inner.output.splitlines()[-2]).artifact
    assert artifact
    peak = max(whole.peak_rss_bytes, inner.peak_rss_bytes)
    return Figures(name, whole.seconds, _seconds(inner), peak), artifact.uri


def _seconds(done: Process) -> float:
    """Without imports, as the side itself measured them."""
    return float(json.loads(done.output.splitlines()[-1])["seconds"])


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
    """Raises RuntimeError with the end of its output when it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})}, text=True
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(errors.read() + output.read())[-2000:]}")
        return Process(output.read(), seconds, usage.ru_maxrss * 1024)


@contextmanager
def _folder() -> Iterator[Path]:
    """On the disk of the user's cache, where the model is too."""
    root = cache("bench")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="work-") as folder:
        yield Path(folder)


def _print_table(figures: Sequence[Figures], base: Path, differing: int) -> None:
    size = sum(path.stat().st_size for path in base.iterdir())
    print(f"{size / GB:.2f} GB; seconds without imports, and of the whole process")
    print(f"{'':<26}{'seconds':>9}{'GB/s':>8}{'total':>9}{'peak RSS':>12}{'elements that differ from PEFT':>33}")
    for found in figures:
        rate, peak = size / found.seconds / GB, found.peak_rss_bytes / 2**20
        compared = f"{differing:>33}" if found.name.startswith("ours") else ""
        print(f"{found.name:<26}{found.seconds:>9.2f}{rate:>8.2f}{found.total_seconds:>9.2f}{peak:>8.0f} MiB{compared}")


def _summary(figures: Mapping[str, Figures], ratio: Ratio, differing: int) -> dict[str, object]:
    cp, cp_sha256, ours, ours_new = (figures[name] for name in (CP, CP_SHA256, OURS, OURS_NEW))
    peft, s3_copy, ours_s3 = (figures[name] for name in (PEFT, S3_COPY, OURS_S3))
    return {
        "cp_seconds": round(cp.seconds, 3),
        "cp_sha256_seconds": round(cp_sha256.seconds, 3),
        "ours_seconds": round(ours.seconds, 3),
        "ours_new_base_seconds": round(ours_new.seconds, 3),
        "s3_copy_seconds": round(s3_copy.seconds, 3),
        "ours_s3_seconds": round(ours_s3.seconds, 3),
        "peft_seconds": round(peft.seconds, 3),
        "peft_total_seconds": round(peft.total_seconds, 3),
        "ours_total_seconds": round(ours.total_seconds, 3),
        "ours_peak_rss_bytes": max(ours.peak_rss_bytes, ours_s3.peak_rss_bytes),
        "peft_peak_rss_bytes": peft.peak_rss_bytes,
        "differing_elements": differing,
        "ratio_median": round(ratio.median, 3),
        "ratio_least": round(ratio.least, 3),
        "ratio_largest": round(ratio.largest, 3),
        "pairs": len(ratio.loads),
        "loads": [round(load, 2) for load in ratio.loads],
        "processors": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
