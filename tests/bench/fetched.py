"""Measures the fetch of an artifact beside raw reads of the same objects, from the same server to the same disk.

`make bench-fetch` (`python -m tests.bench.fetched`) prints the rate of each way, and one JSON line. The ways run in
turn, each in a process of its own; a round's ratio is ours by the faster of the two raw ways to the disk in that round,
since a busy neighbour slows all of them. Ours proves every file's sha256, the raw ways nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ftm_jobs.artifacts.manifest import encode
from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest, ManifestFile, ManifestInput
from ftm_jobs.contract.steps import Step
from tests.bench.fetch_sides import SIDES
from tests.servers.seaweedfs import ADMIN, MODELS, Server, seaweedfs

MIB = 1 << 20
FILES, FILE_BYTES = 3, 256 * MIB
"""As a model in shards; what is in them does not matter to a fetch."""
RAW_TO_DISK = ("transfers", "ranges")


@dataclass(frozen=True)
class FetchFigures:
    """Medians over all rounds."""

    bytes_per_second: Mapping[str, float]
    """By side."""
    of_raw: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each way, in turn (default 5)")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure_fetch(Path(folder), parsed.rounds, FILE_BYTES)
    for side, rate in found.bytes_per_second.items():
        print(f"{side:<20}{rate / 1e6:>8.0f} MB/s")
    print(json.dumps({"fetch_of_raw": round(found.of_raw, 3)}))


def measure_fetch(folder: Path, rounds: int, file_bytes: int) -> FetchFigures:
    """Measures all sides so many times, and once before, which does not count."""
    with seaweedfs(folder / "seaweedfs") as server:
        uri = upload_artifact(server, folder / "shards", file_bytes)
        total = FILES * file_bytes
        seconds = [{side: seconds_of(side, server, uri, folder / "to") for side in SIDES} for _ in range(rounds + 1)]
    counted = seconds[1:]
    rates = {side: total / median(each[side] for each in counted) for side in SIDES}
    return FetchFigures(rates, median(min(each[raw] for raw in RAW_TO_DISK) / each["ours"] for each in counted))


def upload_artifact(server: Server, folder: Path, file_bytes: int) -> str:
    """Makes an artifact of random bytes in FILES files, and returns its URI."""
    folder.mkdir()
    for number in range(FILES):
        with (folder / f"model-{number + 1:05}-of-{FILES:05}.safetensors").open("wb") as file:
            for _ in range(file_bytes // MIB):
                file.write(os.urandom(MIB))
    uri = server.upload(MODELS, "measured", folder)
    shutil.rmtree(folder)
    client = server.client(ADMIN)
    files = []
    for found in client.list_objects_v2(Bucket=MODELS, Prefix="measured/")["Contents"]:
        sha256 = client.head_object(Bucket=MODELS, Key=found["Key"])["Metadata"]["sha256"]
        name = found["Key"].removeprefix("measured/")
        files.append(ManifestFile(path=name, size=found["Size"], sha256=sha256))
    base = ManifestInput(role="base", uri="hf://org/base@1", digest="sha256:0")
    key = f"merge-{'1' * 32}"
    manifest = Manifest(key=key, step=Step.MERGE, recipe=1, inputs=(base,), files=tuple(files))
    server.put(MODELS, f"measured/{MANIFEST_NAME}", encode(manifest))
    return uri


def seconds_of(side: str, server: Server, uri: str, folder: Path) -> float:
    """Runs one side into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [sys.executable, "-m", "tests.bench.fetch_sides", side, uri, str(folder)]
    keys = server.secret(ADMIN) | {"AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(command, env={**os.environ, **keys}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {side} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
