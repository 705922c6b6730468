"""Fixtures of every test that runs a step in its own process: the places it reads and writes, and the run itself.

One S3 server serves a whole run of pytest, and is started when the first test asks for it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftm_jobs import __main__ as command_line
from ftm_jobs.contract.report import Report
from tests.places import S3, Disk, Place
from tests.servers.seaweedfs import Server, seaweedfs

Run = Callable[..., Report]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started


@pytest.fixture
def s3(server: Server, tmp_path: Path) -> S3:
    return S3(server, tmp_path / "secrets")


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return S3(request.getfixturevalue("server"), tmp_path / "secrets")
    return Disk(tmp_path / "disk")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a step in this process and returns its report, after a check that the exit code agrees with it."""

    def run_step(*arguments: str) -> Report:
        code = command_line.main(arguments)
        report = Report.model_validate_json(capsys.readouterr().out.splitlines()[-1])
        assert code == report.exit_code
        return report

    return run_step
