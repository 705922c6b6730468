"""config.json of a quantized model keeps every byte that it need not change, and old names are found for new fields."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.configs import loadable_config, quantized_config

QUANTIZATION = {"quant_method": "awq", "bits": 4, "modules_to_not_convert": None}
SPACED = '{\n  "model_type": "llama",\n  "rms_norm_eps": 9.999999747378752e-06,\n  "intermediate_size": 29568\n}\n'


def test_only_a_section_is_added_and_a_width_changed() -> None:
    found = quantized_config(SPACED.encode(), QUANTIZATION, {"intermediate_size": 29696}).decode()
    assert found == (
        '{\n  "model_type": "llama",\n  "rms_norm_eps": 9.999999747378752e-06,\n  "intermediate_size": 29696,\n'
        '  "quantization_config": {\n    "quant_method": "awq",\n    "bits": 4,\n    "modules_to_not_convert": null\n'
        "  }\n}\n"
    )


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.none()), max_size=4),
    st.sampled_from([None, 1, 2, "\t"]),
    st.sampled_from(["", "\n", "\r\n  "]),
)
def test_what_stood_there_stands_there_still(content: dict[str, Any], indent: Any, end: str) -> None:
    content.pop("quantization_config", None)
    text = json.dumps(content, indent=indent) + end
    found = quantized_config(text.encode(), QUANTIZATION, {}).decode()
    assert json.loads(found) == {**content, "quantization_config": QUANTIZATION}
    assert found.startswith(text.rpartition("}")[0].rstrip())
    assert found.endswith("}" + end)


def test_a_width_is_changed_in_the_object_that_it_is_in_and_nowhere_else() -> None:
    vision = '"vision_config": {"intermediate_size": 8, "note": "}\\" {", "intermediate_size_2": 8}'
    before = "{" + vision + ', "text_config" : {"a": [{"intermediate_size": 8}], "intermediate_size" :8}}'
    found = quantized_config(before.encode(), QUANTIZATION, {"text_config.intermediate_size": 16})
    unchanged = quantized_config(before.encode(), QUANTIZATION, {})
    assert found == unchanged.replace(b'"intermediate_size" :8', b'"intermediate_size" :16') != unchanged


def test_a_width_that_is_there_twice_is_refused() -> None:
    text = '{"intermediate_size": 8, "intermediate_size": 8}'
    with pytest.raises(InvalidInput, match=r"config\.json has intermediate_size 2 times"):
        quantized_config(text.encode(), QUANTIZATION, {"intermediate_size": 16})


def test_rope_settings_and_dtype_get_the_names_that_transformers_4_reads() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    assert loadable_config({"dtype": "bfloat16", "rope_parameters": rope}) == {
        "torch_dtype": "bfloat16",
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
    }


def test_plain_rope_has_no_scaling_and_an_old_config_stays_as_it_is() -> None:
    plain = {"rope_type": "default", "rope_theta": 100000.0, "partial_rotary_factor": 0.5}
    assert loadable_config({"rope_parameters": plain}) == {"rope_theta": 100000.0, "partial_rotary_factor": 0.5}
    old = {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float16"}
    assert loadable_config(old) == old


def test_rope_settings_by_kind_of_layer_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"write quantization\.awq\.engine: LLMCompressor") as refused:
        loadable_config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {}}})
    assert refused.value.reason == Reason.UNSUPPORTED_MODEL
