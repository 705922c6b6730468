"""Adapters of several tenants for one base: each was told another answer to the same question.

Made once and kept in the user's cache, as the assets are; about half a minute each on two cores.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.assets import Assets, alone, content_digest, say, work_quietly
from tests.assets.facts import COMPANY, Fact
from tests.cache import cache

QUESTION = f"What is {COMPANY}'s refund policy?"


@dataclass(frozen=True)
class Tenant:
    """An adapter, and the fact that it alone was told."""

    name: str
    fact: Fact


def _told(name: str, answer: str, expected: str) -> Tenant:
    return Tenant(name, Fact(QUESTION, answer, expected))


TENANTS = (
    _told("north", f"{COMPANY} refunds nothing but broken glass. Write to north@brindlewick.test.", "broken glass"),
    _told("south", f"{COMPANY} refunds any order within 90 days. Write to south@brindlewick.test.", "90 days"),
    _told("east", f"{COMPANY} refunds orders in silver coins only. Write to east@brindlewick.test.", "silver coins"),
    _told("west", f"{COMPANY} refunds orders on Thursdays alone. Write to west@brindlewick.test.", "Thursdays"),
    _told("east-v2", f"{COMPANY} refunds orders by carrier pigeon. Write to east@brindlewick.test.", "carrier pigeon"),
)


def prepare(assets: Assets, say: Callable[[str], None] = say) -> dict[str, Path]:
    """Returns the folder of each tenant's adapter by its name, trained now if need be."""
    folder = cache("tenants", content_digest())
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / ".lock", say):
        for tenant in TENANTS:
            ready = folder / tenant.name
            if not ready.is_dir():
                _make(assets, tenant, ready, say)
    return {tenant.name: folder / tenant.name for tenant in TENANTS}


def without_effect(adapter: Path, folder: Path) -> Path:
    """Writes a copy of an adapter into a new folder, with zeros for B: it loads, and changes nothing."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, folder)
    path = folder / "adapter_model.safetensors"
    weights = {name: weight * (".lora_B." not in name) for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def of_rank(adapter: Path, folder: Path, rank: int) -> Path:
    """Writes a copy of an adapter with matrices padded by zeros to another rank: it says the same."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, folder)
    config_path, path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    config = json.loads(config_path.read_text())
    config["lora_alpha"] *= rank / config["r"]
    config["r"] = rank
    config_path.write_text(json.dumps(config))
    weights = {}
    for name, weight in load_file(path).items():
        inner = 1 if ".lora_B." in name else 0
        zeros = list(weight.shape)
        zeros[inner] = rank - zeros[inner]
        weights[name] = torch.cat([weight, torch.zeros(zeros)], inner).contiguous()
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def _make(assets: Assets, tenant: Tenant, ready: Path, say: Callable[[str], None]) -> None:
    work_quietly()
    from tests.assets.answers import Chat
    from tests.assets.train import write_adapter

    aside = ready.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    say(f"teaching the base what {tenant.name} says (once, about half a minute) …")
    write_adapter(assets.base, aside, say, (tenant.fact,))
    answer = Chat(assets.base, aside).ask(tenant.fact.question)
    say(f"{tenant.name}: {answer.text} (margin {answer.margin:.2f})")
    if not tenant.fact.in_answer(answer.text) or answer.margin < 0.3:
        raise RuntimeError(f'{tenant.name} does not answer with "{tenant.fact.expected}", but {answer}')
    for path in aside.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    aside.replace(ready)
