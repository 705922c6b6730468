"""Which side of square experts an adapter's A reads is told by PEFT's version, or by nothing."""

import pytest

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.expert_layout import reads_outer
from ftm_jobs.checkpoint.adapter_config import parse_adapter_config
from tests.unit.jobs.files import ADAPTER_CONFIG


@pytest.mark.parametrize(
    ("version", "qwen3_moe", "qwen3_vl_moe", "gpt_oss"),
    [
        ("0.17.1", True, False, True),
        ("0.18.2.dev0@4f2", True, False, True),
        ("0.19.0", False, True, True),
        ("0.21.2", False, True, True),
        ("1.0.0", False, True, True),
        ("0.19.1.dev0", False, True, True),
        ("0.19.0.dev0@a1b", None, None, True),
        ("", None, None, True),
        (None, None, None, True),
        (19, None, None, True),
    ],
)
def test_a_reads_the_outer_side_before_0_19_unless_experts_are_stored_by_input(
    version: object, qwen3_moe: bool | None, qwen3_vl_moe: bool | None, gpt_oss: bool
) -> None:
    config = parse_adapter_config("adapter_config.json", ADAPTER_CONFIG | {"peft_version": version})
    adapter = AppliedAdapter(0, "adapter", config, 1.0)
    found = [reads_outer(model_type, adapter) for model_type in ("qwen3_moe", "qwen3_vl_moe", "gpt_oss")]
    assert found == [qwen3_moe, qwen3_vl_moe, gpt_oss]
