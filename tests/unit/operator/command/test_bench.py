"""`ftm bench` finds the endpoint that is named, measures it, and says in a sentence what it lacks."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftm_operator.api.v1alpha1 import FineTunedModelStatus, Plan
from ftm_operator.benchmark import against_transformers
from ftm_operator.command import live_status
from tests.unit.operator.command.openai_server import OpenAI, openai_server
from tests.unit.operator.command.test_cli import ftm


@pytest.fixture
def url() -> Iterator[str]:
    with openai_server() as url:
        yield url


def test_an_endpoint_is_measured_with_the_keys_of_vllm_and_a_page(
    capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    code, out, err = ftm(capsys, "bench", f"{url}/v1", "-N", "4", "--warm-up", "1", "--html", str(page), "-o", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["model_id"], found["completed"], found["total_output_tokens"]) == ("bot", 4, 8)
    assert OpenAI.models() == ["bot"] * 5
    assert "4/4" in err
    assert f"ftm: page {page}" in err
    assert url in page.read_text()


def test_requests_are_spread_over_adapters(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert ftm(capsys, "bench", url, "-N", "4", "--warm-up", "0", "-c", "1", "--adapters", "all")[0] == 0
    assert OpenAI.models() == ["law", "tax", "law", "tax"]
    assert ftm(capsys, "bench", url, "-N", "2", "--warm-up", "0", "-c", "1", "--adapters", "bot, tax")[0] == 0
    assert OpenAI.models()[4:] == ["bot", "tax"]


def test_two_endpoints_are_compared(capsys: pytest.CaptureFixture[str], url: str) -> None:
    code, out, _ = ftm(capsys, "bench", "--compare", url, f"{url}/", "-N", "2", "--warm-up", "0")
    assert code == 0
    assert f"A is {url}, model bot, B is {url}/, model bot" in out


def test_the_key_is_read_from_the_environment(
    capsys: pytest.CaptureFixture[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    OpenAI.key = "secret"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, err = ftm(capsys, "bench", url, "-N", "1")
    assert (code, err) == (1, f"ftm: {url}/v1/models asks for a key; set OPENAI_API_KEY to it\n")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert ftm(capsys, "bench", url, "-N", "1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "civil"], "URL serves no model civil; it lists bot, law, tax"),
        (["--adapters", "law,civil"], "URL serves no model civil; it lists bot, law, tax"),
        (["--compare"], "--compare takes two endpoints, and here are 1; write --compare A B"),
        (["URL"], "here are 2 endpoints; write one, or --compare A B"),
        (["URL", "--compare", "--against", "hf"], "--compare and --against are both there; keep one of them"),
        (["--words", "few"], "--words few is no length of prompts; write words as 128, or a range as 50-200"),
        (["--prompt", "Where?", "--prompts", "x.jsonl"], "--prompts and --prompt are both there; keep one of them"),
        (
            ["--against", "hf"],
            (
                "--against hf needs the model's folder, and URL is served from /nowhere/model, which is not here; name "
                "a FineTunedModel, a manifest, or an endpoint of this machine"
            ),
        ),
    ],
)
def test_wrong_use_is_said(capsys: pytest.CaptureFixture[str], url: str, arguments: list[str], sentence: str) -> None:
    arguments = [each.replace("URL", url) for each in arguments]
    assert ftm(capsys, "bench", url, *arguments) == (2, "", f"ftm: {sentence.replace('URL', url)}\n")


def test_messages_cannot_be_sent_as_texts(capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "Who?"}]}\n')
    code, _, err = ftm(capsys, "bench", url, "--completions", "--prompts", str(file))
    assert (code, err) == (
        2,
        "ftm: --completions sends texts, and a line of --prompts has messages; write prompt there\n",
    )


def test_an_endpoint_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = ftm(capsys, "bench", url)
    assert (code, err) == (1, f"ftm: {url}/v1/models cannot be reached: [Errno 111] Connection refused\n")


def test_transformers_that_are_not_installed_are_named_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against_transformers, "NEEDED", ("torch", "no_such_package"))
    code, _, err = ftm(capsys, "bench", url, "--against", "hf")
    assert (code, OpenAI.asked) == (1, [])
    assert err == (
        "ftm: --against hf needs no_such_package, not installed here; install ftm-operator[quantize-gguf], which has "
        "both\n"
    )


def served(_: str | None, __: str) -> FineTunedModelStatus:
    endpoint = "http://bot.team.svc:8080/v1"
    return FineTunedModelStatus(endpoint=endpoint, plan=Plan(served_model_name="bot"), ready_replicas=3)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in kubectl's place; the test writes what it does."""
    monkeypatch.setattr(live_status, "status_of", served)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "kubectl"


def write_kubectl(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_model_of_the_cluster_is_reached_by_a_port_forward_and_the_replicas_are_told(
    capsys: pytest.CaptureFixture[str], url: str, kubectl: Path
) -> None:
    port = url.rpartition(":")[2]
    told = kubectl.with_name("arguments")
    write_kubectl(kubectl, f'echo "$@" > {told}\necho "Forwarding from 127.0.0.1:{port} -> 8000"\nexec sleep 60')
    code, out, _ = ftm(capsys, "bench", "bot", "-n", "team", "-N", "2")
    assert code == 0
    assert told.read_text() == "port-forward service/bot :8080 --address 127.0.0.1 --namespace team\n"
    assert "note: a port-forward leads to one of the 3 replicas\n" in out


def test_a_port_that_cannot_be_forwarded_is_said_in_kubectls_words(
    capsys: pytest.CaptureFixture[str], kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubectl(kubectl, 'echo "error: no pods" >&2; exit 1')
    code, _, err = ftm(capsys, "bench", "bot", "-n", "team")
    assert (code, err) == (1, "ftm: kubectl forwards no port to service team/bot: error: no pods\n")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "kubectl, which forwards a port to bot, is not on PATH" in ftm(capsys, "bench", "bot", "-n", "team")[2]


def test_a_model_that_is_not_served_yet_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_status, "status_of", lambda *_: FineTunedModelStatus())
    code, _, err = ftm(capsys, "bench", "bot", "-n", "team")
    assert (code, err) == (2, "ftm: bot is not served yet; see `kubectl describe ftm bot`\n")


def test_adapters_of_an_endpoint_are_those_that_it_lists_below_a_parent(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert ftm(capsys, "adapters", url) == (0, "law\ntax\n", "")
    assert json.loads(ftm(capsys, "adapters", url, "-o", "json")[1]) == {url: [{"name": "law"}, {"name": "tax"}]}


def test_the_namespace_is_the_kubeconfigs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    context = "contexts: [{name: here, context: {cluster: c, user: u%s}}]\ncurrent-context: here\n"
    rest = "clusters: [{name: c, cluster: {server: 'https://c'}}]\nusers: [{name: u, user: {}}]\nkind: Config\n"
    config.write_text(rest + context % ", namespace: team")
    assert live_status.namespace_of(None) == "team"
    assert live_status.namespace_of("other") == "other"
    config.write_text(rest + context % "")
    assert live_status.namespace_of(None) == "default"
