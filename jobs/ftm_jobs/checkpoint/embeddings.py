"""Knows embeddings and output layers by the names of their layers. Pure."""

INPUT_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
OUTPUT_LAYERS = ("lm_head", "embed_out")


def is_output_layer(name: str) -> bool:
    """Returns whether this is the weight of an output layer, as model.lm_head.weight is."""
    return name.endswith(".weight") and layer_of(name) in OUTPUT_LAYERS


def layer_of(name: str) -> str:
    """Returns the layer that a weight belongs to: lm_head of model.lm_head.weight."""
    return name.rpartition(".")[0].rpartition(".")[2]
