"""Decides whose tokenizer and whose chat template a merged model has: the base's, or those beside an adapter. Pure.

An adapter was trained with the tokenizer and the template that lie beside it, so they win where they differ from the
base's in a token, its number, the merges, a special token or a template. Where nothing differs the base's files stay,
byte for byte: those of the adapter are the same ones, written anew by another version of transformers. A tokenizer
that contradicts the vocabulary does not win, and a note says why: it has tokens that the embedding has no row for,
gives another number to a token of the base, lacks tokens of the base, or cannot be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.companions.base_folder import first_few
from ftm_jobs.companions.tokenizer_files import TokenizerContent
from ftm_jobs.errors import InvalidInput, Reason


@dataclass(frozen=True)
class TokenizerChoice:
    adapter: int | None
    """The adapter whose tokenizer files are taken; None: the base's are."""
    templates: Mapping[str, str]
    """Chat templates by name."""
    notes: tuple[str, ...] = ()
    own: tuple[bool, ...] = ()
    """For each adapter, whether it was trained with another tokenizer or template than the base's."""


def choose_tokenizer(
    base: TokenizerContent, adapters: Sequence[TokenizerContent | None], rows: int | None
) -> TokenizerChoice:
    """Returns the choice; None stands for an adapter without a tokenizer, `rows` are those of the merged embedding.

    Raises InvalidInput (AdapterMismatch) when adapters have vocabularies that contradict each other.
    """
    notes: list[str] = []
    accepted: dict[int, TokenizerContent] = {}
    differing: dict[int, TokenizerContent] = {}
    own = [False] * len(adapters)
    for number, tokenizer in enumerate(adapters):
        if tokenizer is None:
            continue
        own[number] = _differs(base, tokenizer) or not _same(base.templates, {**base.templates, **tokenizer.templates})
        if _differs(base, tokenizer):
            if objection := _contradiction(base, tokenizer, rows):
                notes.append(f"the tokenizer of {tokenizer.uri} is not taken, but the base's: {objection}")
                continue
            differing[number] = tokenizer
        accepted[number] = tokenizer
    taken = _largest(differing)
    templates, template_notes = _chosen_templates(base, [each for each in accepted.values() if each.templates])
    return TokenizerChoice(taken, templates, (*notes, *template_notes), tuple(own))


def _differs(base: TokenizerContent, other: TokenizerContent) -> bool:
    named = any(base.special.get(name) != token for name, token in other.special.items())
    if not other.tokens:
        return named or not other.added <= base.added
    merges = bool(base.merges and other.merges) and base.merges != other.merges
    return named or merges or base.tokens != other.tokens or base.added != other.added


def _contradiction(base: TokenizerContent, other: TokenizerContent, rows: int | None) -> str | None:
    if not other.tokens:
        return "it has no tokenizer.json or vocab.json to compare, so save it with the tokenizer's save_pretrained"
    moved = [token for token, number in base.tokens.items() if other.tokens.get(token, number) != number]
    if moved:
        return f"it gives {len(moved)} of the base's tokens other numbers ({_shown(moved)})"
    new = {token: number for token, number in other.tokens.items() if token not in base.tokens}
    beyond = [token for token, number in new.items() if rows is None or number >= rows]
    if beyond and base.tokens:
        room = "unknown" if rows is None else f"{rows:,}"
        return f"{len(beyond)} of its tokens ({_shown(beyond)}) have no row in the embedding, which has {room} rows"
    reused = set(new.values())
    lost = [token for token, number in base.tokens.items() if token not in other.tokens and number not in reused]
    return f"it lacks {len(lost)} of the base's tokens ({_shown(lost)})" if lost else None


def _largest(tokenizers: Mapping[int, TokenizerContent]) -> int | None:
    """Returns the last of those that have all tokens of all."""
    for number, tokenizer in reversed(list(tokenizers.items())):
        if all(other.tokens.items() <= tokenizer.tokens.items() for other in tokenizers.values()):
            return number
    if not tokenizers:
        return None
    *_, first, second = tokenizers.values()
    apart = sorted(
        token for token in {*first.tokens, *second.tokens} if first.tokens.get(token) != second.tokens.get(token)
    )
    raise InvalidInput(
        Reason.ADAPTER_MISMATCH,
        f"the tokenizers of {first.uri} and {second.uri} contradict each other in {len(apart)} tokens "
        f"({_shown(apart)}), so no vocabulary fits both: merge adapters that were trained with one tokenizer",
    )


def _chosen_templates(
    base: TokenizerContent, adapters: Sequence[TokenizerContent]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    if not adapters:
        return base.templates, ()
    last = adapters[-1]
    others = [each.uri for each in adapters[:-1] if not _same(each.templates, last.templates)]
    note = f"the chat templates of {last.uri} and {first_few(others)} differ: that of {last.uri} is taken"
    templates = {**base.templates, **last.templates}
    return base.templates if _same(templates, base.templates) else templates, (note,) if others else ()


def _same(templates: Mapping[str, str], others: Mapping[str, str]) -> bool:
    return {name: text.strip() for name, text in templates.items()} == {
        name: text.strip() for name, text in others.items()
    }


def _shown(tokens: Sequence[str]) -> str:
    return first_few([repr(token) for token in tokens])
