"""What a model answers to a question, greedily, with its chat template: plain transformers, no serving engine.

A margin is the smallest lead, in probability, that any token of the answer has over the runner-up: an answer with a
large margin survives the rounding of a merge and another engine's arithmetic.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class Answer:
    text: str
    margin: float
    cut: bool
    """It went on after MAX_NEW_TOKENS."""


class Chat:
    """A base model, alone or with an adapter, held in memory."""

    def __init__(self, base: Path, adapter: Path | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(
            1
        )  # decoding waits for memory; on a busy machine a second thread makes it ten times slower
        self._tokenizer: Any = AutoTokenizer.from_pretrained(base)
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
        self._model: PreTrainedModel = model.eval()

    def ask(self, question: str) -> Answer:
        import torch

        prompt: Any = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            generated: Any = self._model.generate(  # type: ignore[operator]
                **prompt,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        best_two = torch.stack([logits[0].softmax(-1).topk(2).values for logits in generated.logits])
        tokens = generated.sequences[0, prompt["input_ids"].shape[1] :]
        return Answer(
            text=self._tokenizer.decode(tokens, skip_special_tokens=True).strip(),
            margin=float((best_two[:, 0] - best_two[:, 1]).min()),
            cut=int(tokens[-1]) not in self._tokenizer.all_special_ids,
        )
