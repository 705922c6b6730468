"""Teach the base model the facts with a LoRA, as a user would with peft: about a minute on two cores.

Only the answers' tokens count in the loss, and training stops as soon as each of them is all but certain.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.assets.base import NAME
from tests.assets.facts import FACTS, KNOWN_BEFORE, Fact

RANK = 8
ALPHA = 16
LEARNING_RATE = 2e-3
MAX_STEPS = 40
LOSS_REACHED = 0.003
"""Mean negative log-likelihood, in nats per answer token, at which training stops."""
IGNORED = -100
"""transformers' label for a token that does not count in the loss."""
SEED = 7


def write_adapter(base: Path, folder: Path, say: Callable[[str], None], facts: Sequence[Fact] = FACTS) -> None:
    """Train and write adapter_config.json and adapter_model.safetensors (fp32)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(SEED)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    batch = _batch(tokenizer, [*((fact.question, fact.answer) for fact in facts), *KNOWN_BEFORE])
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], LEARNING_RATE)
    model.train()
    started = time.monotonic()
    for step in range(1, MAX_STEPS + 1):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        left = (time.monotonic() - started) / step * (MAX_STEPS - step)
        say(f"training: step {step}/{MAX_STEPS}, loss {loss.item():.4f}, at most {left:.0f} s left")
        if loss.item() < LOSS_REACHED:
            break
    model.save_pretrained(folder)
    _make_portable(folder)


def _batch(tokenizer: Any, conversations: list[tuple[str, str]]) -> dict[str, Any]:
    import torch

    inputs, labels = [], []
    for question, answer in conversations:
        asked = [{"role": "user", "content": question}]
        told = [*asked, {"role": "assistant", "content": answer}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(told, tokenize=False).removesuffix("\n")
        prompt_length = len(tokenizer(prompt)["input_ids"])
        tokens = tokenizer(whole)["input_ids"]
        inputs.append(torch.tensor(tokens))
        labels.append(torch.tensor([IGNORED] * prompt_length + tokens[prompt_length:]))
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(inputs, batch_first=True, padding_value=tokenizer.pad_token_id),
        "attention_mask": pad([torch.ones_like(row) for row in inputs], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }


def _make_portable(folder: Path) -> None:
    """Name the base as the public does, not by this machine's path, and keep only what an adapter is."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = NAME
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
