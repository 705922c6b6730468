"""A vLLM server of a tiny model behind its guard, adapters for it, and the agent beside it: each a process."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from ftm_jobs import __main__ as command_line
from ftm_jobs.contract.mounts import GUARD_MODULE
from ftm_jobs.contract.run_time_adapters import (
    HeldAdapter,
    HeldAdapters,
    WantedAdapter,
    WantedAdapters,
    newest,
    to_text,
    wanted_hash,
)
from ftm_jobs.serve.guard_files import write_guard
from tests.servers.vllm import ENVIRONMENT

HIDDEN, LAYERS, MAX_RANK = 128, 2, 8
BASE = "base"
KEY = {"Authorization": "Bearer the-key"}
"""What vLLM's own key is sent as."""
SIZES = {
    "--max-lora-rank": MAX_RANK,
    "--max-loras": 2,
    "--max-cpu-loras": 3,
    "--max-model-len": 256,
    "--max-num-seqs": 16,
}
TARGETS = {"q_proj": HIDDEN, "o_proj": HIDDEN}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(what: str, true: Callable[[], Any], seconds: float = 300.0, pause: float = 0.05) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not come true in {seconds:g} s"
        time.sleep(pause)
    return found


def write_model(folder: Path) -> Path:
    """A Llama of random weights whose tokens are bytes."""
    torch.manual_seed(3)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=256,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return folder


def write_adapter(folder: Path, seed: int, rank: int = 4, scale: float = 0.3) -> Path:
    """A LoRA as PEFT saves it; its B is zero if `scale` is."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    tensors = {}
    for layer in range(LAYERS):
        for target, width in TARGETS.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, HIDDEN)
            tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank) * scale
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": sorted(TARGETS)}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    return folder


@dataclass
class Server:
    """The engine, which can be killed and started again at the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)
    """Flags and their values; without those of LoRA it loads no adapters."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        own = ENVIRONMENT | {"PYTHONPATH": str(self.folder / "guard"), "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
        own |= {"VLLM_API_KEY": KEY["Authorization"].removeprefix("Bearer ")}
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.folder / "model")]
        command += ["--served-model-name", BASE, "--port", str(self.port), "--host", "127.0.0.1", "--dtype", "bfloat16"]
        command += ["--middleware", f"{GUARD_MODULE}.Guard", "--enforce-eager"]
        command += ["--enable-lora"] if "--max-loras" in self.sizes else []
        command += [word for flag, size in self.sizes.items() for word in (flag, str(size))]
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        wait_for("the engine's health", self.is_up, seconds=900, pause=0.5)

    def is_up(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "engine.log").read_text()[-20_000:]
        try:
            return self.ask("GET", "/health", None, {}).status_code == 200
        except httpx2.HTTPError:
            return False

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ask(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> httpx2.Response:
        return httpx2.request(
            method, f"{self.url}{path}", json=body, headers=dict(headers), timeout=300, trust_env=False
        )

    def answer(self, model: str) -> str:
        """Returns the greedy answer; the status where there is none."""
        body = {"model": model, "prompt": "Hello, what do you", "max_tokens": 6, "temperature": 0}
        response = self.ask("POST", "/v1/completions", body, KEY)
        return str(response.json()["choices"][0]["text"]) if response.status_code == 200 else f"{response.status_code}!"

    def names(self) -> set[str]:
        models = self.ask("GET", "/v1/models", None, KEY).json()["data"]
        return {model["id"] for model in models} - {BASE}


@dataclass
class Store:
    """A folder of artifacts of adapters."""

    folder: Path

    def keep(self, name: str, adapter: Path) -> WantedAdapter:
        """Runs the adapter step, and returns what it kept as it is wanted."""
        base = (self.folder / "model").as_uri()
        arguments = ["adapter", "--base", base, "--adapter", adapter.as_uri(), "--artifacts", self.folder.as_uri()]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert command_line.main(arguments) == 0
        artifact = json.loads(said.getvalue().splitlines()[-1])["artifact"]
        return WantedAdapter(
            name=name, artifact=artifact["uri"], digest=artifact["digest"], total_bytes=artifact["totalBytes"]
        )


@dataclass
class AgentProcess:
    """The agent's command, as it runs in a pod."""

    folder: Path
    url: str
    guard: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def run(self) -> Iterator["AgentProcess"]:
        command = [sys.executable, "-m", "ftm_jobs", "adapters", "--wanted", str(self.folder / "adapters.json")]
        command += ["--folder", str(self.folder / "kept"), "--engine", self.url, "--guard", str(self.guard)]
        command += ["--port", str(self.port)]
        with (self.folder / "agent.out").open("wb") as out, (self.folder / "agent.err").open("wb") as err:
            self.process = process = subprocess.Popen(command, stdout=out, stderr=err)
            try:
                yield self
                assert process.poll() is None, self.errors()
            finally:
                process.terminate()
                process.wait()

    def want(self, *adapters: WantedAdapter) -> str:
        """Writes the file as the kubelet does, and returns its hash."""
        text = to_text(WantedAdapters(model=BASE, adapters=adapters))
        aside = self.folder / "adapters.json.new"
        aside.write_text(text)
        aside.replace(self.folder / "adapters.json")
        return wanted_hash(text)

    def settled(self, wanted: str, seconds: float = 300.0) -> dict[str, HeldAdapter]:
        """Waits until it has said of all that is wanted how it ended."""

        def done() -> HeldAdapters | None:
            held = newest((self.folder / "agent.out").read_text().splitlines())
            finished = held and all(each.state != "Loading" for each in held.adapters)
            return held if held and held.wanted == wanted and finished else None

        try:
            held: HeldAdapters = wait_for("an answer to what is wanted", done, seconds)
        except AssertionError as error:
            raise AssertionError(f"{(self.folder / 'agent.out').read_text()[-3000:]} {self.errors()}") from error
        return {each.name: each for each in held.adapters}

    def ready(self) -> int:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/ready", timeout=5, trust_env=False).status_code
        except httpx2.HTTPError:
            return 0

    def errors(self) -> str:
        return (self.folder / "agent.err").read_text()[-3000:]


def prepared(folder: Path) -> Server:
    """Writes a model and a guard; the server does not run yet."""
    write_model(folder / "model")
    write_guard(folder / "guard")
    return Server(folder)
