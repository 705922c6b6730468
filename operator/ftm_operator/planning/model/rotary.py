"""Tells how a model turns its queries and keys by their positions, as far as the engine's table of angles asks.

Sources: vLLM's classes of models; layers/rotary_embedding and transformers_utils/config.py, patch_rope_parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftm_jobs.contract.config_fields import first_number
from ftm_operator.planning.model.layer_attention import GEMMA_4, inner_object

WITHOUT = {"bloom", "gpt2", "gpt_bigcode", "jamba", "kimi_linear", "mpt", "nemotron_h", "opt"}
"""Families that turn nothing."""
OWN_ANGLES = {"gemma3", "gemma3_text", *GEMMA_4}
"""Families whose layers with a window have a table of their own."""
IN_FLOAT32 = {"gpt_oss"}
"""Families that keep the table in float32, whatever the model's dtype is."""
OF_FRAMES = ("glm4v", "qwen2_5_omni", "qwen2_5_vl", "qwen2_vl", "qwen3_omni", "qwen3_vl", "qwen3_5")
"""Beginnings of families whose positions count frames of videos."""
OF_PRUNED_FRAMES = ("qwen3_vl", "qwen3_5")
"""Those of them whose tables later versions make longer only where frames are left out of videos. Source:
models/qwen3_vl.py, mrope_positions_factor."""
LONGER = 4
"""The times that a table of frames is longer. Source: mrope.py, positions_factor."""
FACTORS = ("rotary_pct", "rotary_emb_fraction", "partial_rotary_factor")
"""config.json's names for the share of each head that is turned."""


@dataclass(frozen=True)
class Rotary:
    """The angles of a model."""

    share: float = 1
    """The share of each head that is turned; 0: none is."""
    width: int | None = None
    """The numbers of each head that are turned, where they are said instead of a share."""
    own_angles: bool = False
    """Layers with a window have angles of their own."""
    in_float32: bool = False
    least_longer: int = 1
    """The times that the table is longer than the context, at least."""
    most_longer: int = 1

    def width_of(self, head_size: int) -> int:
        """Returns the numbers of a head of this size that are turned."""
        return min(self.width, head_size) if self.width else int(head_size * self.share)


WHOLE_HEADS = Rotary()


def rotary_of(text: Mapping[str, Any], model_type: str) -> Rotary:
    """Returns what config.json says; what an older inspection left out is taken as the larger table."""
    if model_type in WITHOUT or _has_other_positions(text, model_type):
        return Rotary(share=0)
    longer = LONGER if model_type.startswith(OF_FRAMES) or "mrope_section" in _parameters(text) else 1
    share = _share(text)
    return Rotary(
        share=share or 1,
        width=None if share else first_number(text, "rotary_dim"),
        own_angles=model_type in OWN_ANGLES,
        in_float32=model_type in IN_FLOAT32,
        least_longer=1 if model_type.startswith(OF_PRUNED_FRAMES) else longer,
        most_longer=longer,
    )


def _has_other_positions(text: Mapping[str, Any], model_type: str) -> bool:
    """Says whether config.json names another kind of positions, in the family that may have either (Granite 4)."""
    return model_type == "granitemoehybrid" and text.get("position_embedding_type", "rope") != "rope"


def _parameters(text: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**inner_object(text, "rope_scaling"), **inner_object(text, "rope_parameters")}


def _share(text: Mapping[str, Any]) -> float | None:
    values = (_parameters(text).get("partial_rotary_factor"), *(text.get(name) for name in FACTORS))
    return next((value for value in values if isinstance(value, int | float) and 0 < value <= 1), None)
