"""The tokenizer and the chat template that an adapter was trained with are the merged model's, for every reader."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf.vocab import SpecialVocab
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ftm_jobs.adapters.dynamic_serving import OWN_TOKENIZER
from ftm_jobs.checkpoint.source_files import source_digest, stats_of
from ftm_jobs.stores.file import FileStore
from ftm_jobs.text.calibration import ChatMessage
from ftm_jobs.text.chat_template import load_template
from tests.models.llamas import medium
from tests.step_fixtures import Run

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
TRAINED = "{% for m in messages %}[turn]{{ m['role'] }} {{ m['content'] }}[end]{% endfor %}"
NEW = ["[turn]", "[end]"]
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tokenizer() -> Any:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=30, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    raw.train_from_iterator(["words of several kinds become tokens"] * 3, trainer)
    fast: Any = PreTrainedTokenizerFast
    made: Any = fast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.chat_template = TEMPLATE
    return made


def field_of_transformers_4(folder: Path) -> None:
    """Moves the chat template into tokenizer_config.json, where transformers 4 wrote it."""
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text()) | {"chat_template": (folder / "chat_template.jinja").read_text()}
    path.write_text(json.dumps(content, indent=2))
    (folder / "chat_template.jinja").unlink()


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """A base of 32 rows with a tokenizer of fewer tokens, and an adapter."""
    base, adapter = medium(tmp_path / "made", layers=1, width=256)
    tokenizer().save_pretrained(base)
    return base, adapter


def merged(run: Run, sources: tuple[Path, Path], tmp_path: Path) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """The merged folder, its notes, and why the adapter cannot be served unmerged."""
    arguments = ["--base", sources[0].as_uri(), "--adapter", sources[1].as_uri()]
    out = tmp_path / "out"
    report = run("merge", *arguments, "--out", out.as_uri())
    facts = run("inspect", *arguments).facts
    assert facts
    assert facts.adapters[0].dynamic_objections is not None
    return out, report.notes, facts.adapters[0].dynamic_objections


def templates(folder: Path) -> set[str]:
    """The chat template as transformers, llama.cpp's converter and the Jobs read it."""
    read = load_template(folder)
    assert read
    messages = [ChatMessage("user", "tokens")]
    told = AutoTokenizer.from_pretrained(folder)
    shown = told.apply_chat_template([{"role": "user", "content": "tokens"}], tokenize=False)
    assert read.render(messages) == shown
    of_llama_cpp: Any = SpecialVocab(folder).chat_template
    return {told.chat_template, of_llama_cpp}


def test_added_tokens_and_their_template_are_the_adapters(run: Run, sources: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = sources
    (base / "vocab.bpe").write_text("of the base's tokenizer alone")
    trained = tokenizer()
    trained.add_special_tokens({"additional_special_tokens": NEW})
    trained.chat_template = TRAINED
    trained.save_pretrained(adapter)
    out, notes, objections = merged(run, sources, tmp_path)
    assert (notes, objections) == ((), (OWN_TOKENIZER,))
    assert {name: (out / name).read_bytes() for name in FILES} == {
        name: (adapter / name).read_bytes() for name in FILES
    }
    assert not (out / "vocab.bpe").exists()
    assert AutoTokenizer.from_pretrained(out).encode("[turn]words[end]") == trained.encode("[turn]words[end]")
    assert templates(out) == {TRAINED}


@pytest.mark.parametrize("old_base", [False, True])
@pytest.mark.parametrize("old_adapter", [False, True])
def test_a_template_alone_is_taken_into_every_place_that_is_read(
    run: Run, sources: tuple[Path, Path], tmp_path: Path, old_base: bool, old_adapter: bool
) -> None:
    base, adapter = sources
    trained = tokenizer()
    trained.chat_template = TRAINED
    trained.save_pretrained(adapter)
    for folder, old in ((base, old_base), (adapter, old_adapter)):
        if old:
            field_of_transformers_4(folder)
    out, notes, objections = merged(run, sources, tmp_path)
    assert (notes, objections) == ((), (OWN_TOKENIZER,))
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert templates(out) == {TRAINED}


def test_a_tokenizer_that_means_the_same_leaves_the_bases_files_as_they_are(
    run: Run, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = sources
    same = tokenizer()
    same.pad_token = "</s>"
    same.padding_side = "left"
    same.save_pretrained(adapter)
    (adapter / "tokenizer.json").write_text(json.dumps(json.loads((adapter / "tokenizer.json").read_text())))
    out, notes, objections = merged(run, sources, tmp_path)
    assert (notes, objections) == ((), ())
    assert {name: (out / name).read_bytes() for name in FILES} == {name: (base / name).read_bytes() for name in FILES}


def test_new_tokens_without_rows_leave_the_bases_tokenizer_and_are_named(
    run: Run, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = sources
    trained = tokenizer()
    trained.add_tokens([f"[{number}]" for number in range(10)])
    trained.save_pretrained(adapter)
    out, (note,), _ = merged(run, sources, tmp_path)
    assert "have no row in the embedding, which has 32 rows" in note
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_template_of_the_base_stays_where_the_adapters_tokenizer_has_none(
    run: Run, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = sources
    field_of_transformers_4(base)
    trained = tokenizer()
    trained.add_special_tokens({"additional_special_tokens": NEW})
    trained.chat_template = None
    trained.save_pretrained(adapter)
    out, notes, _ = merged(run, sources, tmp_path)
    assert notes == ()
    assert AutoTokenizer.from_pretrained(out).encode("[turn]") == trained.encode("[turn]")
    assert templates(out) == {TEMPLATE}


def test_a_digest_of_an_earlier_version_leaves_the_tokenizer_where_that_version_left_it(
    run: Run, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = sources
    store = FileStore(adapter)
    digest = source_digest(stats_of(store, sorted(store.list())).values())
    shutil.copy(base / "tokenizer.json", adapter)
    trained = tokenizer()
    trained.chat_template = TRAINED
    trained.save_pretrained(adapter)
    out = tmp_path / "out"
    pinned = f"{adapter.as_uri()},digest={digest}"
    report = run("merge", "--base", base.as_uri(), "--adapter", pinned, "--out", out.as_uri())
    (note,) = report.notes
    assert "chat_template.jinja, tokenizer.json, tokenizer_config.json; leave the digest out" in note
    assert {name: (out / name).read_bytes() for name in FILES} == {name: (base / name).read_bytes() for name in FILES}
