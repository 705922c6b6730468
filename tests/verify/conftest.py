"""A real base and adapter, merged once for all tests, and a run of the step as a Job runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftm_jobs import __main__ as command_line
from ftm_jobs.contract.report import Report
from tests.assets import Assets, prepare
from tests.verify.small import cut

Run = Callable[..., Report]
TOKENS = 160


@dataclass(frozen=True)
class Merged:
    assets: Assets
    model: Path
    store: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Merged:
    folder = tmp_path_factory.mktemp("small")
    return merged(cut(prepare(), folder), folder / "store")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A step in this process, with one thread, since tests share the machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run_step(*arguments: str) -> Report:
        code = command_line.main(arguments)
        report = Report.model_validate_json(capsys.readouterr().out.splitlines()[-1])
        assert code == report.exit_code, report.message
        return report

    return run_step


@pytest.fixture
def verify(run: Run, tmp_path: Path) -> Run:
    """Verifies a merged model, with other arguments as given."""

    def verify_model(found: Merged, *arguments: str, model: Path | None = None, adapter: Path | None = None) -> Report:
        return run(
            *("verify", "--base", found.assets.base.as_uri()),
            *("--adapter", (adapter or found.assets.adapter).as_uri()),
            *("--model", (model or found.model).as_uri(), "--artifacts", (tmp_path / "verified").as_uri()),
            *("--tokens", str(TOKENS), *arguments),
        )

    return verify_model


def merged(assets: Assets, store: Path) -> Merged:
    from ftm_jobs.merge.artifact import merge
    from ftm_jobs.merge.inputs import load_inputs
    from ftm_jobs.stores import open_artifacts
    from ftm_jobs.stores.source import parse_source

    inputs = load_inputs(parse_source(assets.base.as_uri()), [parse_source(assets.adapter.as_uri(), scalable=True)])
    report = merge(inputs, open_artifacts(parse_source(store.as_uri())))
    assert report.artifact
    return Merged(assets, store / report.artifact.key, store)
