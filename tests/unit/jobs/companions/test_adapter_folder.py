"""Weights beside an adapter are never ignored: refused by name, or named in a note."""

import pytest

from ftm_jobs.companions.adapter_folder import refuse_trained_weights, unread_notes
from ftm_jobs.errors import InvalidInput, Reason

URI = "s3://models/adapter"


@pytest.mark.parametrize(
    "name",
    [
        *("non_lora_trainables.bin", "mm_projector.bin", "new_embeddings.safetensors", "learned_embeds.bin"),
        *("learned_embeddings.safetensors", "trainable_params.bin"),
    ],
)
def test_trained_parts_of_the_model_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        refuse_trained_weights(URI, {"README.md", name})
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
    assert caught.value.message.startswith(f"{URI} holds {name}, weights that were trained beside LoRA")


def test_a_value_head_and_unknown_weights_are_named_and_the_state_of_training_is_not() -> None:
    unread = {
        "value_head.safetensors",
        "optimizer.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "README.md",
        "vocab.json",
    }
    refuse_trained_weights(URI, unread)
    (note,) = unread_notes(URI, unread, {"checkpoint-500", "runs"})
    assert note.startswith(f"left out of the merged model, of {URI}: value_head.safetensors, a head that")
    notes = unread_notes(URI, {"adapter_model.bin", "extra.safetensors"}, {"critic"})
    assert notes == (f"not read, beside the adapter in {URI}: adapter_model.bin, critic/, extra.safetensors",)
    assert unread_notes(URI, {"README.md", "tokenizer.json"}, set()) == ()
