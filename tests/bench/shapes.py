"""Shapes of the models that are measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A Llama's shapes; `layers` may be fewer than the real model has."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int

    def modules(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each matrix that the adapter changes."""
        narrow = self.hidden // self.heads * self.key_value_heads
        shapes = {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        return {f"model.layers.{layer}.{name}": shape for layer in range(self.layers) for name, shape in shapes.items()}

    def tensors(self) -> dict[str, tuple[int, ...]]:
        embedding = (self.vocabulary, self.hidden)
        norms = [
            f"model.layers.{layer}.{norm}.weight"
            for layer in range(self.layers)
            for norm in ("input_layernorm", "post_attention_layernorm")
        ]
        return {
            "model.embed_tokens.weight": embedding,
            **{f"{name}.weight": shape for name, shape in self.modules().items()},
            **dict.fromkeys([*norms, "model.norm.weight"], (self.hidden,)),
            "lm_head.weight": embedding,
        }


SIZES = {
    "0.1": Size(768, 2048, 12, 12, 4, 8192),
    "1.1": Size(2048, 5632, 22, 32, 4, 32000),
    "8": Size(4096, 14336, 8, 32, 8, 128256),
    "70": Size(8192, 28672, 2, 64, 8, 128256),
}
"""By billions of parameters. 8 and 70 have those models' shapes in a subset of their layers."""
