"""The hf store, against a fake of the hub's endpoints (tests/servers/hub.py)."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from ftm_jobs.contract.steps import Outcome
from ftm_jobs.stores import open_store, retry
from ftm_jobs.stores.source import parse_source
from tests.places import Disk, write_secret
from tests.servers.hub import COMMIT, TOKEN, Hub, fake_hub
from tests.step_fixtures import Run
from tests.unit.jobs.files import ADAPTER_CONFIG, ADAPTER_SHAPES, BASE_SHAPES, LLAMA_CONFIG, zeros


@pytest.fixture
def hub() -> Iterator[Hub]:
    with fake_hub() as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_DELAY_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def base(tmp_path: Path, hub: Hub) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (folder / "model.safetensors").write_bytes(zeros(BASE_SHAPES))
    (folder / "tokenizer.json").write_text("{}")
    (folder / ".gitattributes").write_text("")
    hub.publish(folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(zeros(ADAPTER_SHAPES))
    return folder.as_uri()


@pytest.fixture
def source(hub: Hub, tmp_path: Path) -> str:
    return f"hf://org/name,credentials={write_secret(tmp_path, {'HF_ENDPOINT': hub.endpoint, 'HF_TOKEN': TOKEN})}"


def test_a_model_on_the_hub_is_pinned_to_a_commit_and_has_the_key_it_has_on_the_disk(
    base: Path, adapter: str, source: str, run: Run, tmp_path: Path
) -> None:
    facts = run("inspect", "--base", source, "--adapter", adapter).facts
    assert facts
    assert facts.base.uri == f"hf://org/name@{COMMIT}"
    pinned = source.replace("hf://org/name", facts.base.uri) + f",digest={facts.base.digest}"
    artifacts = Disk(tmp_path).artifacts
    merged = run("merge", "--base", pinned, "--adapter", adapter, "--artifacts", artifacts)
    assert merged.reason == "Merged"
    again = run("merge", "--base", base.as_uri(), "--adapter", adapter, "--artifacts", artifacts)
    assert (again.reason, again.artifact) == ("AlreadyMerged", merged.artifact)


def test_weights_are_read_in_ranges_and_the_token_stays_with_the_hub(
    adapter: str, source: str, run: Run, hub: Hub
) -> None:
    assert run("inspect", "--base", source, "--adapter", adapter).outcome is Outcome.DONE
    tokens = {(host, authorization) for host, _, authorization in hub.requests}
    assert tokens == {("127.0.0.1", f"Bearer {TOKEN}"), ("localhost", "")}


def test_a_mirror_that_ignores_ranges_is_read_right(source: str, hub: Hub) -> None:
    hub.ranges = False
    store = open_store(parse_source(source))
    content = hub.files["model.safetensors"]
    assert bytes(store.read("model.safetensors", 100, 57)) == content[100:157]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(adapter: str, source: str, run: Run, hub: Hub, status: int) -> None:
    hub.failures = [status, status]
    assert run("inspect", "--base", source, "--adapter", adapter).outcome is Outcome.DONE
    hub.failures = [status] * 100
    report = run("inspect", "--base", source, "--adapter", adapter)
    assert (report.outcome, report.reason) == (Outcome.FAILED, "StoreUnavailable")


def test_a_hub_is_given_the_time_that_it_asks_for(adapter: str, source: str, run: Run, hub: Hub) -> None:
    hub.failures, hub.retry_after = [429], 2
    began = time.monotonic()
    assert run("inspect", "--base", source, "--adapter", adapter).outcome is Outcome.DONE
    assert time.monotonic() - began >= 2


def test_a_mirror_with_a_certificate_of_its_own_is_trusted_when_the_secret_holds_it(
    base: Path, adapter: str, run: Run, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ("-subj", "/CN=mirror", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    made = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *subject, *made], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())

    def inspect(secret: dict[str, str]) -> Outcome:
        source = f"hf://org/name,credentials={write_secret(tmp_path, secret)}"
        return run("inspect", "--base", source, "--adapter", adapter).outcome

    with fake_hub(both) as mirror:
        mirror.publish(base)
        endpoint = {"HF_ENDPOINT": mirror.endpoint}
        try:
            assert inspect(endpoint) is Outcome.FAILED
            assert inspect({**endpoint, "SSL_CERT_FILE": "no certificate"}) is Outcome.INVALID_INPUT
            assert inspect({**endpoint, "SSL_CERT_FILE": certificate.read_text()}) is Outcome.DONE
        finally:
            set_client_factory(default_client_factory)


def test_what_is_not_there_or_not_allowed_is_told_apart(adapter: str, hub: Hub, tmp_path: Path, run: Run) -> None:
    def refusal(uri: str, token: str) -> tuple[str, str]:
        secret = write_secret(tmp_path, {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token})
        report = run("inspect", "--base", f"{uri},credentials={secret}", "--adapter", adapter)
        assert report.outcome is Outcome.INVALID_INPUT
        return report.reason, report.message

    reason, message = refusal("hf://org/other", TOKEN)
    assert reason == "SourceNotFound"
    assert "hf://org/other does not exist or is private: correct the name, or set a HF_TOKEN" in message
    reason, message = refusal("hf://org/name@v2", TOKEN)
    assert reason == "SourceNotFound"
    assert "the repository has no such branch, tag or commit" in message
    hub.private = True
    assert refusal("hf://org/name", "hf_wrong")[0] == "SourceNotFound"
    hub.private, hub.gated = False, True
    reason, message = refusal("hf://org/name", "")
    assert reason == "AccessDenied"
    assert "correct HF_TOKEN, or log in again with `hf auth login`" in message


def test_without_a_token_in_the_secret_the_environments_token_is_not_sent(
    adapter: str, hub: Hub, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    secret = write_secret(tmp_path, {"HF_ENDPOINT": hub.endpoint})
    run("inspect", "--base", f"hf://org/name,credentials={secret}", "--adapter", adapter)
    assert {authorization for _, _, authorization in hub.requests} == {""}


def test_a_hub_that_cannot_be_reached_is_worth_a_retry(adapter: str, tmp_path: Path, run: Run) -> None:
    secret = write_secret(tmp_path, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    report = run("inspect", "--base", f"hf://org/name,credentials={secret}", "--adapter", adapter)
    assert (report.outcome, report.reason) == (Outcome.FAILED, "StoreUnavailable")
