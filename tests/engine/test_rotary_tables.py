"""The bytes of tables of angles are those of vLLM's own models."""

import pytest

from ftm_operator.planning.memory.reserves import rotary_table
from tests.engine.checkpoints import DROPPED
from tests.engine.models import NAMES, build
from tests.unit.operator.planning.catalogue import NEWER, model_of

BY_TRANSFORMERS = {"hunyuan-a13b", "phi-2", "seed-oss-36b", "starcoder2-15b"}
"""This vLLM serves them by transformers' classes, which keep no table; earlier ones had classes of their own."""


@pytest.mark.parametrize("name", [*NAMES, *(name for name in NEWER if name not in DROPPED)])
def test_tables_of_angles_take_what_is_predicted(name: str) -> None:
    tables = {
        id(buffer): buffer.numel() * buffer.element_size()
        for path, buffer in build(name).model.named_buffers()
        if path.endswith("cos_sin_cache") and not path.startswith(("vision", "visual"))
    }
    ours = rotary_table(model_of(name), "bfloat16")
    assert sum(tables.values()) in ((0,) if name in BY_TRANSFORMERS else (ours.least, ours.most))
