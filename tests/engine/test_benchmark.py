"""`ftm run` serves adapters beside a base, and there `ftm bench` and `vllm bench serve` agree, to the digit.

Both send the same prompts with as many tokens to answer; what is counted must be equal. Times are those of a busy
machine and are not compared.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ftm_operator.api.v1alpha1 import API_VERSION, KIND
from ftm_operator.benchmark.figures import Figures, RequestTimes, figures_json
from ftm_operator.local.engine_client import EngineClient, served_models
from tests.engine.live import write_adapter, write_model
from tests.servers.vllm import ENVIRONMENT
from tests.unit.operator.benchmark.requests import answered, failed

REQUESTS, TOKENS, AT_ONCE = 12, 9, 4
FTM = str(Path(sys.executable).with_name("ftm"))
NOT_OURS = {"burstiness", "tokenizer_id", "request_goodput", "rtfx", "generated_texts", "label"}
"""Keys of vLLM's that tell nothing here: a tokenizer is not needed, audio is not asked, goodput has no target."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two adapters of which one changes nothing, and a manifest that serves them unmerged."""
    folder = tmp_path_factory.mktemp("dynamic")
    write_model(folder / "base")
    write_adapter(folder / "law", seed=1)
    write_adapter(folder / "void", seed=2, scale=0.0)
    adapters = [{"name": name, "uri": f"file://{name}"} for name in ("law", "void")]
    spec = {"mode": "Dynamic", "base": {"uri": "file://base"}, "adapters": adapters, "serving": {"engine": "vLLM"}}
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "tiny"}, "spec": spec}
    (folder / "tiny.yaml").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """`ftm run` of the manifest: the address that it prints."""
    environment = {**os.environ, **ENVIRONMENT, "XDG_CACHE_HOME": str(folder / "cache")}
    with (folder / "run.log").open("w") as log:
        process = subprocess.Popen(
            [FTM, "run", str(folder / "tiny.yaml")], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        assert process.stdout
        try:
            found = re.match(r"Serving tiny at (\S+)/v1 until", process.stdout.readline())
            assert found, (folder / "run.log").read_text()[-3000:]
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def test_ftm_run_serves_the_base_and_each_adapter_that_changes_something(url: str, folder: Path) -> None:
    assert [each.name for each in served_models(url, None)] == ["tiny", "law"]
    told = (folder / "run.log").read_text()
    assert re.search(r"^ftm: law: Loaded, effect \S+ nats, rounding \S+$", told, re.MULTILINE), told
    assert re.search(r"^ftm: void: Failed, effect 0 nats.*\(AdapterHasNoEffect: ", told, re.MULTILINE), told
    answers = {name: EngineClient(url, name).ask("Hello", most_tokens=8) for name in ("tiny", "law")}
    assert answers["tiny"] != answers["law"]


def ours(url: str, prompts: Path) -> dict[str, Any]:
    command = [FTM, "bench", url, "--prompts", str(prompts), "--completions"]
    command += ["-N", str(REQUESTS), "-c", str(AT_ONCE), "--output-tokens", str(TOKENS), "--ignore-eos"]
    command += ["--warm-up", "0", "--detailed", "-o", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def vllms_arguments(url: str, model: Path) -> argparse.Namespace:
    """Asks for random prompts: those of a file would need pandas, which vLLM does not install."""
    from vllm.benchmarks.serve import add_cli_args

    parser: Any = argparse.ArgumentParser()
    add_cli_args(parser)
    asked = ["--base-url", url, "--model", "tiny", "--tokenizer", str(model), "--dataset-name", "random"]
    asked += ["--random-input-len", "20", "--random-output-len", str(TOKENS), "--num-prompts", str(REQUESTS)]
    asked += ["--max-concurrency", str(AT_ONCE), "--ignore-eos", "--save-detailed", "--disable-tqdm"]
    asked += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99"]
    arguments: argparse.Namespace = parser.parse_args(asked)
    return arguments


def test_both_count_the_same_on_the_same_server(url: str, folder: Path, tmp_path: Path) -> None:
    from vllm.benchmarks.datasets import get_samples
    from vllm.benchmarks.serve import main
    from vllm.tokenizers import get_tokenizer

    samples = get_samples(vllms_arguments(url, folder / "base"), get_tokenizer(str(folder / "base")))
    prompts = [str(each.prompt) for each in samples]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in prompts))
    mine, vllms = ours(url, file), main(vllms_arguments(url, folder / "base"))
    assert set(vllms) - set(mine) <= NOT_OURS
    for key in ("completed", "failed", "total_input_tokens", "total_output_tokens", "num_prompts", "max_concurrency"):
        assert mine[key] == vllms[key], key
    assert mine["input_lens"] == vllms["input_lens"]
    assert mine["output_lens"] == vllms["output_lens"] == [TOKENS] * REQUESTS


@pytest.mark.parametrize("seed", range(3))
def test_the_same_requests_give_the_same_figures_to_the_digit(seed: int) -> None:
    from vllm.benchmarks.serve import calculate_metrics

    chooser = random.Random(seed)
    requests = [failed(0.1, "Status500", "no")]
    for number in range(chooser.choice([1, 7, 200])):
        times = sorted(chooser.uniform(0.01, 3) for _ in range(chooser.randint(1, 20)))
        requests.append(answered(number * 0.05, *times))
    metrics, _ = calculate_metrics([], list(map(_theirs, requests)), 12.0, None, [50, 90, 99], {})
    found = figures_json(Figures(12.0, tuple(requests)), detailed=False)
    for name in ("ttft", "tpot", "itl", "e2el"):
        theirs: Mapping[str, Any] = vars(metrics)
        for figure in ("mean", "median", "std"):
            assert found[f"{figure}_{name}_ms"] == pytest.approx(theirs[f"{figure}_{name}_ms"])
        for share, value in theirs[f"percentiles_{name}_ms"]:
            assert found[f"p{share}_{name}_ms"] == pytest.approx(value)
    same = ("completed", "failed", "request_throughput", "output_throughput", "total_token_throughput")
    for key in (*same, "max_output_tokens_per_s", "max_concurrent_requests"):
        assert found[key] == pytest.approx(getattr(metrics, key)), key


def _theirs(request: RequestTimes) -> Any:
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput

    return RequestFuncOutput(
        success=request.error is None,
        latency=request.e2el,
        output_tokens=request.output_tokens,
        ttft=request.ttft,
        itl=request.itls,
        prompt_len=request.input_tokens,
        error=request.error.message if request.error else "",
        start_time=request.started,
    )
