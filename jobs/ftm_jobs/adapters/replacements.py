"""Matches an adapter's tensors that take the place of the base's: whole ones, and single rows. Pure."""

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Replace, ReplaceRows, Update
from ftm_jobs.adapters.classifier_head import head_update, is_classifier_head
from ftm_jobs.adapters.mismatch import adapter_mismatch, check_shape, not_found
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS, layer_of
from ftm_jobs.checkpoint.headers import Tensor


def replacement(base: BaseTensors, adapter: AppliedAdapter, name: str, tensor: Tensor) -> Update:
    """Returns the update by a tensor that replaces the one that the adapter calls `name`."""
    module = name.rpartition(".")[0]
    in_module = any(f".{saved}" in f".{module}" for saved in adapter.config.modules_to_save) and not (
        adapter.config.ensure_weight_tying and base.tied_embeddings
    )
    weight = base.names.find(name)
    if weight is None and layer_of(name) in OUTPUT_LAYERS and name.endswith(".weight") and base.tied_embeddings:
        weight = base.new_output_layer(name) if in_module else base.embedding
    if weight is None and is_classifier_head(name):
        return head_update(base, adapter, name, tensor)
    if weight is None:
        raise not_found(base, adapter.file, f'tensor "{tensor.name}" replaces', name)
    stored = weight if weight in base.by_name else base.embedding
    if stored is not None:
        target = base.floating(stored)
        shape = target.tensor.shape
        resizable = shape and layer_of(name) in (*INPUT_EMBEDDINGS, *OUTPUT_LAYERS)
        check_shape(target, adapter.file, tensor, (tensor.shape[:1] + shape[1:]) if resizable else shape)
    return Update(weight, Replace(adapter.number, tensor), in_module)


def row_update(base: BaseTensors, adapter: AppliedAdapter, module: str, tensor: Tensor) -> Update:
    """Returns the update by a tensor that holds trained rows of `module`'s weight."""
    weight = base.find(f"{module}.weight")
    if weight is None:
        raise not_found(base, adapter.file, f'tensor "{tensor.name}" holds rows of', f"{module}.weight")
    named = adapter.config.token_indices
    indices = next((rows for name, rows in named.items() if name and f".{module}".endswith(f".{name}")), named.get(""))
    if indices is None:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{tensor.name}" holds rows of {module}, which trainable_token_indices in '
            "adapter_config.json does not name: upload the two files of one training"
        )
    if not indices:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{tensor.name}" has no rows, as trainable_token_indices in adapter_config.json '
            "lists no tokens: train the adapter with the tokens' numbers, or with trainable_token_indices null"
        )
    target = base.floating(weight)
    check_shape(target, adapter.file, tensor, (len(indices), *target.tensor.shape[1:]))
    return Update(weight, ReplaceRows(adapter.number, tensor, indices))
