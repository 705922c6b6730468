"""Compares the tokenizer that trained with the one that serves: both must turn texts into the same tokens.

A wrong special token or a lost rule for whitespace ruins every answer and no file looks wrong, so texts that trip
tokenizers up are encoded by both. Pure: tokenizers come in.
"""

from collections.abc import Iterable
from typing import Protocol

from ftm_jobs.verify.figures.difference import Difference

SHOWN = 40
"""Characters of a text in a sentence."""

TRICKY = (
    "Hello, world!",
    "",
    " ",
    "  two  spaces,   three",
    "\ttab\t\ttabs",
    "line\nline\n\n\nline\r\nline",
    "   \n  \n leading and trailing   ",
    "no-break\u00a0space, thin\u2009space, zero\u200bwidth",
    "naïve café — “quotes” … ‘single’",
    "e\u0301 n\u0303 combining; é ñ composed; Å Å",
    "👋🏽 👩‍👩‍👧‍👦 🇺🇦 ☃️",
    "你好,世界。東京タワー 서울특별시",
    "שלום עולם مرحبا بالعالم‎ abc",
    "Привет, мир! Ελληνικά हिन्दी ไทย",
    "0 12 345 6789 1234567890 3.14159 1,000,000 -1e-7",
    "I'm you're THEY'LL don't it's o'clock",
    'def f(x: int) -> str:\n    return f"{x!r}\\n"  # comment\n',
    '{"a": [1, 2.5, null], "b": "\\u00e9"}',
    "<div class='x'>&amp;</div> <!-- -->",
    "SELECT * FROM t WHERE a >= 1 AND b != 'x';",
    "https://example.test/a?b=c&d=%20#e user@example.test",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...---***///\\\\\\",
    "CamelCaseWordsAndSNAKE_CASE_WORDS",
)
"""Texts as people write them: every difference matters."""

EXOTIC = ("٣٤٥ ५६७", "ﬁ ﬂ Ⅳ ½ ㎏ ﷺ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 🜁", "\u0001\u007f control", "Z͑ͫa̴l̶g̷o")
"""Texts on which engines' Unicode tables differ by version: told, but no reason to hold a model back."""


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]:
        """Returns tokens; special ones that the text spells are recognised, and none are added."""

    @property
    def special(self) -> dict[str, int | None]:
        """Returns bos_token and eos_token."""

    @property
    def adds_first(self) -> bool: ...

    @property
    def chat_template(self) -> str | None: ...


def differences(
    trained: Tokenizer, serving: Tokenizer, texts: Iterable[str], special: Iterable[str] = ()
) -> list[Difference]:
    """Returns how the tokenizers differ; each spelling of `special` is encoded alone and inside a text."""
    differing = [
        Difference(name, _shown(token), _shown(serving.special.get(name)))
        for name, token in trained.special.items()
        if token != serving.special.get(name)
    ]
    if trained.adds_first != serving.adds_first:
        differing.append(
            Difference("a text's first token is added", _shown(trained.adds_first), _shown(serving.adds_first))
        )
    if _template(trained) != _template(serving):
        differing.append(Difference("chat template", _shown(trained.chat_template), _shown(serving.chat_template)))
    spelled = [spelling for token in special for spelling in (token, f"a{token}b {token}\n{token}")]
    for text in [*texts, *spelled]:
        wanted, given = trained.encode(text), serving.encode(text)
        if wanted != given:
            at = next((place for place, pair in enumerate(zip(wanted, given, strict=False)) if pair[0] != pair[1]), -1)
            place = at if at >= 0 else min(len(wanted), len(given))
            differing.append(
                Difference(
                    f"the tokens of {_shown(text)} from the {place + 1}. on",
                    str(wanted[place : place + 6]),
                    str(given[place : place + 6]),
                )
            )
    return differing


def _template(tokenizer: Tokenizer) -> str | None:
    template = tokenizer.chat_template
    return template.strip() if template else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
