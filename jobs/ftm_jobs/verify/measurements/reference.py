"""Makes the reference that an engine is held against once it serves: figures, spellings, conversations and answers.

An engine never computes as verification does: it rounds all that passes between modules to the model's dtype, and its
kernels sum up in another order. `rounding` of a text says how much that does to each token. For weights that vLLM
serves, the model is computed once more in bfloat16 by transformers; for GGUF, the merged model with what enters its
layers rounded to 8 bits as llama.cpp does.
"""

from collections.abc import Mapping, Sequence

import jinja2
import torch

from ftm_jobs.contract.verification import (
    ReferenceAnswer,
    ReferenceConversation,
    ReferenceSpelling,
    ReferenceText,
    ServedReference,
)
from ftm_jobs.text.calibration import ChatMessage
from ftm_jobs.text.chat_template import ChatTemplate
from ftm_jobs.text.prompts import TokenizedQuestion, TokenizedText
from ftm_jobs.verify.figures.model_names import BASE, MERGED, QUANTIZED, ROUNDED
from ftm_jobs.verify.figures.tokenizer_parity import TRICKY
from ftm_jobs.verify.models.answers import Answer
from ftm_jobs.verify.models.hf_tokenizer import HfTokenizer
from ftm_jobs.verify.models.layerwise import POSITIONS_AT_ONCE, Logits

CONVERSATIONS = (
    (ChatMessage("user", "Name the largest planet."),),
    (ChatMessage("system", "Answer in one word."), ChatMessage("user", "Name the largest planet.")),
    (
        ChatMessage("user", "Name the largest planet."),
        ChatMessage("assistant", "Jupiter."),
        ChatMessage("user", "  And the smallest?\n"),
    ),
)
"""Conversations that every chat template must write like the model's own; one that it refuses is left out."""


def reference_texts(
    logits: Mapping[str, Logits], texts: Sequence[TokenizedText], *, by_llama_cpp: bool
) -> list[ReferenceText]:
    """Returns the texts with the figures of the model to be served: the quantized one, if there is one.

    `by_llama_cpp`: that model is a GGUF, and the rounded one is the merged model's. A text with figures that are not
    finite is left out.
    """
    served = token_logprobs(logits[QUANTIZED if QUANTIZED in logits else MERGED])
    rounded = token_logprobs(logits[ROUNDED])
    exact = token_logprobs(logits[MERGED]) if by_llama_cpp else served
    base = token_logprobs(logits[BASE])
    return [
        ReferenceText(
            tokens=text.tokens,
            logprobs=_digits(served[number]),
            rounding=_digits((rounded[number] - exact[number]).abs()),
            effect=_digits(served[number] - base[number]),
        )
        for number, text in enumerate(texts)
        if all(bool(each[number].isfinite().all()) for each in (served, rounded, exact, base))
    ]


def token_logprobs(model: Logits) -> list[torch.Tensor]:
    """Returns the log-probability of each token of each prompt but the first, in nats: (tokens - 1,) each."""
    found = []
    with model.ready():
        for number, tokens in enumerate(model.prompts):
            following = torch.tensor(list(tokens[1:]))
            parts = [torch.empty(0, dtype=torch.float64)]
            for first in range(0, len(following), POSITIONS_AT_ONCE):
                chosen = following[first : first + POSITIONS_AT_ONCE]
                every = torch.log_softmax(model.of(number, first, len(chosen)).cpu().double(), -1)
                parts.append(every.gather(-1, chosen[:, None])[:, 0])
            found.append(torch.cat(parts))
    return found


def served_reference(
    texts: Sequence[ReferenceText],
    engine: str,
    tokenizer: HfTokenizer,
    template: ChatTemplate | None,
    asked: Sequence[tuple[TokenizedQuestion, Answer]],
    *,
    by_llama_cpp: bool,
) -> ServedReference:
    """Puts a reference together; `asked` are the questions with the answers of the model to be served.

    Where an engine writes the day's date into conversations, none are kept, and questions are kept as the tokens that
    the verification asked. llama.cpp begins a conversation with the tokenizer's first token, whether the template
    writes it or not.
    """
    dated = template is not None and template.writes_the_date(by_llama_cpp=by_llama_cpp)
    spellings = tuple(
        ReferenceSpelling(text=text, tokens=tuple(tokenizer.encode_text(text))) for text in TRICKY if text.strip()
    )
    return ServedReference(
        engine=engine,
        texts=tuple(texts),
        spellings=spellings,
        conversations=() if template is None or dated else _conversations(template, tokenizer, asked, by_llama_cpp),
        answers=_expected(tokenizer, asked, by_messages=template is not None and not dated, dated=dated),
        notes=("the chat template writes the date, so its tokens at the endpoint are not compared",) if dated else (),
    )


def _conversations(
    template: ChatTemplate,
    tokenizer: HfTokenizer,
    asked: Sequence[tuple[TokenizedQuestion, Answer]],
    by_llama_cpp: bool,
) -> tuple[ReferenceConversation, ...]:
    first = tokenizer.special["bos_token"] if by_llama_cpp and tokenizer.adds_first else None
    found = []
    for messages in (*CONVERSATIONS, *(each.question.as_messages() for each, _ in asked)):
        try:
            tokens = tokenizer.encode(template.render(messages, add_generation_prompt=True))
        except jinja2.TemplateError:
            continue
        if first is not None and tokens[:1] != [first]:
            tokens = [first, *tokens]
        found.append(ReferenceConversation(messages=_told(messages), tokens=tuple(tokens)))
    return tuple(found)


def _expected(
    tokenizer: HfTokenizer, asked: Sequence[tuple[TokenizedQuestion, Answer]], *, by_messages: bool, dated: bool
) -> tuple[ReferenceAnswer, ...]:
    found = []
    for each, answer in asked:
        said = tokenizer.decode(answer.tokens).casefold()
        expect = tuple(text for text in each.question.expect if text.casefold() in said)
        if not expect:
            continue
        found.append(
            ReferenceAnswer(
                prompt=None if by_messages else "\n".join(message.content for message in each.question.as_messages()),
                messages=_told(each.question.as_messages()) if by_messages else None,
                tokens=each.tokens if dated else None,
                expect=expect,
                most_tokens=max(1, len(answer.tokens)),
            )
        )
    return tuple(found)


def _told(messages: Sequence[ChatMessage]) -> tuple[dict[str, str], ...]:
    return tuple({"role": message.role, "content": message.content} for message in messages)


def _digits(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
