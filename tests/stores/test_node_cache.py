"""A node's cache before a real S3 server: what crosses the network is counted at the server's own door."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftm_jobs.contract.report import Report
from tests.models.llamas import medium
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import ADMIN, ARTIFACTS, MODELS, seaweedfs
from tests.unit.jobs.node_cache.caches import artifact

SIZE = 20_000_000


@dataclass(frozen=True)
class Node:
    """A node with a cache, and the way to the store."""

    root: Path
    door: Proxy
    environment: dict[str, str]
    artifact: str
    """SOURCE."""
    base: str
    """SOURCE of a model that is served as it is stored."""

    def start(self, pod: str, *source: str, size: int = 10 * SIZE) -> subprocess.Popen[bytes]:
        """Starts what the fetch container of a pod runs."""
        cache = ["--cache", str(self.root / "cache"), "--cache-size", str(size), "--bytes", str(SIZE), "--pod", pod]
        command = [sys.executable, "-m", "ftm_jobs", "fetch", *source, "--to", str(self.root / pod), *cache]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE)

    def fetched(self, pod: str, *source: str) -> tuple[Report, int]:
        """Returns a pod's report, and the bytes that the server answered meanwhile."""
        before = self.door.answered
        output, _ = self.start(pod, *source).communicate()
        return Report.model_validate_json(output), self.door.answered - before


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with seaweedfs(tmp_path / "s3") as server, proxy(server.endpoint) as door:
        made = artifact(tmp_path, "merge-1", SIZE)
        server.upload(ARTIFACTS, "merge-1", tmp_path / "store" / "merge-1")
        base, _ = medium(tmp_path / "made", layers=1, width=2048)
        server.upload(MODELS, "base", base)
        environment = {**os.environ, **server.secret(ADMIN), "AWS_ENDPOINT_URL": door.endpoint}
        yield Node(
            tmp_path,
            door,
            environment,
            f"s3://{ARTIFACTS}/merge-1,digest={made.digest}",
            f"s3://{MODELS}/base,digest={_digest(environment)}",
        )


def _digest(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "ftm_jobs", "inspect", "--base", f"s3://{MODELS}/base"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return str(json.loads(done.stdout)["facts"]["base"]["digest"])


def test_the_second_pod_of_a_node_takes_no_byte_from_the_store(node: Node) -> None:
    _, first = node.fetched("first", "--artifact", node.artifact)
    report, second = node.fetched("second", "--artifact", node.artifact)
    assert first > SIZE
    assert second == 0
    assert report.reused
    weights = [(node.root / pod / "inner" / "model.safetensors").read_bytes() for pod in ("first", "second")]
    assert weights[0] == weights[1]


def test_two_pods_that_start_at_once_take_the_bytes_of_one(node: Node) -> None:
    pods = [node.start(pod, "--artifact", node.artifact) for pod in ("first", "second")]
    reports = [Report.model_validate_json(pod.communicate()[0]) for pod in pods]
    assert sorted(report.reused or False for report in reports) == [False, True]
    assert SIZE < node.door.answered < 1.5 * SIZE


def test_a_base_as_it_is_stored_is_fetched_once_too(node: Node) -> None:
    _, first = node.fetched("first", "--base", node.base)
    report, second = node.fetched("second", "--base", node.base)
    weights = (node.root / "second" / "model.safetensors").stat().st_size
    assert report.reused
    assert first > weights
    assert second < weights / 10
