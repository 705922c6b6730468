"""Calibration text: what is read, what is refused and in which words, and how conversations become text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores.source import parse_source
from ftm_jobs.text.calibration import (
    LARGEST_BYTES,
    CalibrationText,
    ChatMessage,
    bundled,
    evenly,
    load_calibration,
    parse,
)
from ftm_jobs.text.chat_template import load_template, render

FILE = "s3://models/notes.jsonl"
CHATML = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"


def lines(*entries: Any) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def texts(count: int) -> bytes:
    return lines(*({"text": f"sample {number}"} for number in range(count)))


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse(FILE, data)
    assert refused.value.reason == Reason.INVALID_CALIBRATION
    return refused.value.message


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty: write at least 4 lines like"),
        (b" \n\n\t\n", "is empty: write at least 4 lines like"),
        (texts(1), "has 1 sample: at least 4 are needed, since a quarter is held out to measure on; some 64 are good"),
        (texts(3), "has 3 samples: at least 4 are needed"),
        (texts(4) + "Zürich".encode("latin-1"), "line 5 is not UTF-8 at byte 1: save the file as UTF-8"),
        (texts(4).decode().encode("utf-16"), "line 1 is not UTF-8 at byte 0: save the file as UTF-8"),
        (texts(4) + b"plain words", "line 5 is not JSON (Expecting value: line 1 column 1 (char 0)): write one object"),
        (texts(4) + b"[" * 100_000, "line 5 is not JSON ("),
        (texts(4) + b'["a"]', 'line 5 has not exactly one of "text" and "messages": write {"text": "…"} or'),
        (texts(4) + b'{"prompt": "a"}', 'line 5 has not exactly one of "text" and "messages"'),
        (
            texts(4) + b'{"text": "a", "messages": []}',
            'line 5 has not exactly one of "text" and "messages"',
        ),
        (texts(4) + b'{"text": 7}', "line 5 text is 7, not a text: write one, or remove the line"),
        (texts(4) + b'{"text": "  "}', 'line 5 text is "  ", not a text'),
        (texts(4) + b'{"text": "\\ud83d"}', "line 5 text holds half of a surrogate pair"),
        (texts(4) + b'{"messages": "hello"}', 'line 5 has "messages" that are not a list of messages'),
        (texts(4) + b'{"messages": []}', 'line 5 has "messages" that are not a list of messages'),
        (texts(4) + b'{"messages": ["hello"]}', "line 5 messages[0] is not an object"),
        (texts(4) + b'{"messages": [{"content": "a"}]}', "line 5 messages[0].role is null, not a text"),
        (
            texts(4) + b'{"messages": [{"role": "user", "content": ["a"]}]}',
            'line 5 messages[0].content is ["a"], not a text',
        ),
    ],
)
def test_a_bad_file_is_refused_by_file_line_and_remedy(data: bytes, sentence: str) -> None:
    message = refusal(data)
    assert message.startswith(f"calibration {FILE} ")
    assert sentence in message


@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_answer_is_samples_or_a_refusal(data: bytes) -> None:
    try:
        found = parse(FILE, data).samples
    except InvalidInput as error:
        refused = error.message
        found = ()
    assert len(found) >= 4 or FILE in refused


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_are_no_trouble() -> None:
    data = b"\xef\xbb\xbf" + texts(5).replace(b"\n", b"\r\n\r\n")
    assert [sample.text for sample in parse(FILE, data).samples] == [f"sample {number}" for number in range(5)]


def test_a_line_separator_inside_a_text_does_not_end_its_line() -> None:
    found = parse(FILE, lines(*[{"text": "one\u2028two\x85three"}] * 4))
    assert found.samples[3].text == "one\u2028two\x85three"


@given(st.integers(4, 300))
def test_the_last_quarter_is_held_out(count: int) -> None:
    found = parse(FILE, texts(count))
    assert len(found.held_out) == count // 4 > 0
    assert (*found.fitted, *found.held_out) == found.samples


@given(st.integers(4, 300), st.integers(1, 300))
def test_fewer_samples_are_taken_from_all_over_the_file(count: int, most: int) -> None:
    samples = parse(FILE, texts(count)).samples
    taken = evenly(samples, most)
    places = [samples.index(sample) for sample in taken]
    assert len(taken) == min(count, most)
    assert places == sorted(set(places))
    steps = [after - before for before, after in zip(places, [*places[1:], count], strict=True)]
    assert max(steps) - min(steps) <= 1


def test_the_digest_is_of_the_bytes() -> None:
    assert parse(FILE, texts(4)).digest == parse("another", texts(4)).digest != parse(FILE, texts(5)).digest


class TestBundled:
    def test_it_is_about_64_samples_of_text_and_conversations_in_several_scripts(self) -> None:
        found = bundled()
        assert len(found.samples) == 64
        assert found.uri is None
        for part in (found.fitted, found.held_out):
            text = json.dumps([[sample.text, *(each.content for each in sample.messages)] for sample in part])
            assert any(sample.messages for sample in part)
            assert "raise ValueError(" in text
            assert (
                max(json.loads(f'"{text[at : at + 6]}"') for at in range(len(text)) if text[at : at + 2] == "\\u")
                > "一"
            )

    def test_no_sample_is_there_twice(self) -> None:
        samples = [(sample.text, sample.messages) for sample in bundled().samples]
        assert len(set(samples)) == len(samples)


class TestLoading:
    def load(self, uri: str) -> CalibrationText:
        return load_calibration(parse_source(uri))

    def refusal(self, uri: str) -> InvalidInput:
        with pytest.raises(InvalidInput) as refused:
            self.load(uri)
        return refused.value

    def test_without_a_source_it_is_the_bundled_set(self) -> None:
        assert load_calibration(None) == bundled()

    def test_a_source_is_a_file_or_the_folder_that_holds_one(self, tmp_path: Path) -> None:
        (tmp_path / "notes.jsonl").write_bytes(texts(6))
        (tmp_path / "README.md").write_text("Notes.")
        uri = (tmp_path / "notes.jsonl").as_uri()
        assert len(self.load(uri).samples) == 6
        assert self.load(tmp_path.as_uri()) == self.load(uri)
        assert self.load(uri).uri == uri

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("Notes.")
        missing = self.refusal(f"file://{tmp_path}/absent.jsonl")
        assert missing.reason == Reason.MISSING_FILE
        assert missing.message.startswith(f"calibration file://{tmp_path} has no absent.jsonl: upload one")
        assert "has no .jsonl file" in self.refusal(f"file://{tmp_path}").message
        assert self.refusal(f"file://{tmp_path}/none").reason == Reason.SOURCE_NOT_FOUND

    def test_one_of_several_files_must_be_named(self, tmp_path: Path) -> None:
        for name in ("b.jsonl", "a.jsonl"):
            (tmp_path / name).write_bytes(texts(4))
        assert "has a.jsonl, b.jsonl: name one of them in the URI" in self.refusal(f"file://{tmp_path}").message
        assert self.load(f"file://{tmp_path}/a.jsonl").uri == f"file://{tmp_path}/a.jsonl"

    def test_a_file_that_has_changed_since_it_was_pinned_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(texts(4))
        digest = self.load(f"file://{tmp_path}/a.jsonl").digest
        assert self.load(f"file://{tmp_path}/a.jsonl,digest={digest}").digest == digest
        (tmp_path / "a.jsonl").write_bytes(texts(5))
        assert self.refusal(f"file://{tmp_path}/a.jsonl,digest={digest}").reason == Reason.SOURCE_CHANGED

    def test_a_huge_file_is_refused_unread(self, tmp_path: Path) -> None:
        with (tmp_path / "a.jsonl").open("wb") as file:
            file.truncate(LARGEST_BYTES + 1)
        assert "more than 67108864: a few hundred samples are enough" in self.refusal(f"file://{tmp_path}").message

    def test_an_s3_file_is_looked_for_in_its_folder(self) -> None:
        from ftm_jobs.text.calibration import _split

        folder, name = _split(parse_source("s3://models/texts/notes.jsonl"))
        assert (folder.uri, folder.location.prefix, name) == ("s3://models/texts", "texts", "notes.jsonl")
        assert _split(parse_source("hf://org/notes.jsonl"))[1] is None


class TestChat:
    CHAT = parse(
        FILE, lines(*[{"messages": [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Ho"}]}] * 4)
    )

    def model(self, folder: Path, **files: Any) -> Path:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name.replace("__", ".")).write_text(text)
        return folder

    def test_messages_are_written_by_the_models_own_template(self, tmp_path: Path) -> None:
        template = load_template(self.model(tmp_path, tokenizer_config__json={"chat_template": CHATML}))
        assert render(self.CHAT.fitted[:1], template) == ["<user>Hi<bot>Ho"]

    def test_the_newer_file_wins_and_of_several_templates_the_default(self, tmp_path: Path) -> None:
        several = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
        self.model(tmp_path, tokenizer_config__json={"chat_template": several})
        assert render(self.CHAT.fitted[:1], load_template(tmp_path)) == ["D"]
        self.model(tmp_path, chat_template__jinja="J{{ bos_token }}")
        assert render(self.CHAT.fitted[:1], load_template(tmp_path)) == ["J"]

    def test_special_tokens_are_the_models(self, tmp_path: Path) -> None:
        config = {
            "bos_token": {"content": "<s>"},
            "eos_token": "</s>",
            "chat_template": "{{ bos_token }}{{ eos_token }}",
        }
        template = load_template(self.model(tmp_path, tokenizer_config__json=config))
        assert render(self.CHAT.fitted[:1], template) == ["<s></s>"]

    def test_what_transformers_offers_to_templates_is_there_and_the_date_stands_still(self, tmp_path: Path) -> None:
        source = (
            "{% generation %}{{ {'a': '<é>'} | tojson }}{% endgeneration %}{{ strftime_now('%d %b %Y') }}"
            "{% for message in messages %}{% if loop.last %}{% break %}{% endif %}x{% endfor %}"
        )
        template = load_template(self.model(tmp_path, chat_template__jinja=source))
        assert render(self.CHAT.fitted[:1], template) == ['{"a": "<é>"}26 Jul 2024x']

    def test_a_model_without_a_template_sees_the_contents(self, tmp_path: Path) -> None:
        assert render(self.CHAT.fitted[:1], load_template(tmp_path)) == ["Hi\nHo"]

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
            ("{{ messages[0].content + 1 }}", "TypeError"),
            ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ],
    )
    def test_a_template_that_refuses_is_quoted_with_the_line(self, tmp_path: Path, source: str, words: str) -> None:
        template = load_template(self.model(tmp_path, chat_template__jinja=source))
        with pytest.raises(InvalidInput) as refused:
            render(self.CHAT.fitted[1:2], template)
        assert f"calibration {FILE} line 2: the model's chat template refuses the messages (" in refused.value.message
        assert words in refused.value.message

    def test_a_template_that_is_no_template_is_refused_by_file(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"chat_template.jinja has a chat template that cannot be read"):
            load_template(self.model(tmp_path, chat_template__jinja="{% for %}"))

    def test_it_is_what_transformers_renders(self, tmp_path: Path) -> None:
        from transformers.utils.chat_template_utils import render_jinja_template

        source = (
            "{% for message in messages %}\n  {% if message['role'] == 'user' %}\n<|{{ message.role }}|>\n"
            "  {% endif %}\n{{ message['content'] | trim }}{{ eos_token }}\n{% endfor %}\n"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}"
        )
        config = {"eos_token": "</s>"}
        template = load_template(self.model(tmp_path, chat_template__jinja=source, tokenizer_config__json=config))
        assert template is not None
        messages = [ChatMessage("user", " Wie geht's? "), ChatMessage("assistant", "Gut.\n")]
        told: Any = [{"role": message.role, "content": message.content} for message in messages]
        for prompted in (False, True):
            rendered: Any = render_jinja_template(
                [told], chat_template=source, add_generation_prompt=prompted, eos_token="</s>"
            )
            assert template.render(messages, add_generation_prompt=prompted) == rendered[0][0]
