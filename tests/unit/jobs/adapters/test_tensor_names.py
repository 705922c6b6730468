"""Names that a state dict has when it is saved by hand become those that PEFT writes."""

import pytest

from ftm_jobs.adapters.tensor_names import is_plain, plain_names
from ftm_jobs.errors import InvalidInput, Reason

FILE = "s3://models/a/adapter_model.safetensors"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (f"{Q_PROJ}.lora_A.default.weight", f"{Q_PROJ}.lora_A.weight"),
        (f"{Q_PROJ}.lora_B.support.bias", f"{Q_PROJ}.lora_B.bias"),
        (f"{Q_PROJ}.lora_embedding_A.default", f"{Q_PROJ}.lora_embedding_A"),
        (f"{Q_PROJ}.lora_magnitude_vector.default.weight", f"{Q_PROJ}.lora_magnitude_vector.weight"),
        (f"{Q_PROJ}.token_adapter.trainable_tokens_delta.a", f"{Q_PROJ}.token_adapter.trainable_tokens_delta"),
        (
            "base_model.model._orig_mod.model.layers.0.q.lora_A.weight",
            "base_model.model.model.layers.0.q.lora_A.weight",
        ),
        ("_orig_mod.base_model.model.layers.0.q.lora_A.weight", "base_model.model.layers.0.q.lora_A.weight"),
        ("module.base_model.model.layers.0.q.lora_A.weight", "base_model.model.layers.0.q.lora_A.weight"),
        ("base_model.model.module.layers.0.q.lora_A.weight", "base_model.model.layers.0.q.lora_A.weight"),
        (
            "_fsdp_wrapped_module.base_model.model.a._fsdp_wrapped_module._checkpoint_wrapped_module.q.lora_A.a.weight",
            "base_model.model.a.q.lora_A.weight",
        ),
        ("base_model.model.experts.module.0.lora_A.weight", "base_model.model.experts.module.0.lora_A.weight"),
        (f"{Q_PROJ}.lora_magnitude_vector", f"{Q_PROJ}.lora_magnitude_vector"),
        (f"{Q_PROJ}.lora_magnitude_vector.weight", f"{Q_PROJ}.lora_magnitude_vector.weight"),
        ("base_model.model.lm_head.weight", "base_model.model.lm_head.weight"),
    ],
)
def test_a_name_is_that_of_save_pretrained(stored: str, plain: str) -> None:
    assert plain_names(FILE, [stored]) == {stored: plain}
    assert is_plain(stored) == (stored == plain)


def test_two_adapters_in_one_file_are_refused_by_their_names() -> None:
    with pytest.raises(InvalidInput) as caught:
        plain_names(FILE, [f"{Q_PROJ}.lora_A.one.weight", f"{Q_PROJ}.lora_B.one.weight", f"{Q_PROJ}.lora_A.two.weight"])
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
    assert caught.value.message == (
        f'{FILE} holds two adapters, "one" (tensor "{Q_PROJ}.lora_A.one.weight") and "two" (tensor '
        f'"{Q_PROJ}.lora_A.two.weight"): save each to a folder of its own with PEFT\'s '
        "save_pretrained(selected_adapters=[…])"
    )


def test_two_tensors_of_one_name_are_refused() -> None:
    stored = [f"{Q_PROJ}.lora_A.weight", f"{Q_PROJ}.lora_A.default.weight"]
    with pytest.raises(InvalidInput) as caught:
        plain_names(FILE, stored)
    assert caught.value.message == (
        f'{FILE} tensors "{stored[0]}" and "{stored[1]}" are both "{stored[0]}" to PEFT: '
        "save the adapter with PEFT's save_pretrained"
    )
