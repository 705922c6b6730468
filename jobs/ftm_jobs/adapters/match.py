"""Matches an adapter to a base: each of its tensors must mean one of the base's, with agreeing shapes.

Names, dtypes and shapes come in, from headers; the changes to the base's tensors come out. Pure.
"""

from ftm_jobs.adapters.adapter_tensors import AdapterTensors, AppliedAdapter, sort_tensors
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Replace, Update
from ftm_jobs.adapters.low_rank import layer_updates
from ftm_jobs.adapters.mismatch import AnotherBase, adapter_mismatch, which_base
from ftm_jobs.adapters.replacements import replacement, row_update
from ftm_jobs.checkpoint.headers import Header


def match(base: BaseTensors, adapter: AppliedAdapter, header: Header) -> list[Update]:
    """Returns the adapter's updates, sorted by weight. `header` is that of its weight file.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter, UnsupportedBase) naming file and tensor.
    """
    tensors = sort_tensors(adapter.file, header)
    _check_promises(adapter, tensors)
    try:
        return _updates(base, adapter, tensors)
    except AnotherBase as error:
        modules = [layer.module for layer in tensors.layers if ".experts" not in layer.module]
        raise adapter_mismatch(f"{error.message}: {which_base(base, adapter.config, modules)}") from error


def _updates(base: BaseTensors, adapter: AppliedAdapter, tensors: AdapterTensors) -> list[Update]:
    updates = [replacement(base, adapter, name, tensor) for name, tensor in tensors.whole.items()]
    replaced = {update.weight: update.change.tensor for update in updates if isinstance(update.change, Replace)}
    for layer in tensors.layers:
        updates += layer_updates(base, adapter, layer, replaced, tensors.layers)
    updates += [row_update(base, adapter, module, tensor) for module, tensor in tensors.rows.items()]
    return sorted(updates, key=lambda update: update.weight)


def _check_promises(adapter: AppliedAdapter, tensors: AdapterTensors) -> None:
    config = adapter.config
    for field, promised, kept in (
        ("use_dora", config.dora, [layer for layer in tensors.layers if layer.magnitude]),
        ("lora_bias", config.lora_bias, [layer for layer in tensors.layers if layer.bias]),
        ("trainable_token_indices", bool(config.token_indices), tensors.rows),
        ("modules_to_save", bool(config.modules_to_save), tensors.whole),
    ):
        if promised and not kept:
            raise adapter_mismatch(
                f"{adapter.file} holds none of the tensors that {field} in adapter_config.json promises: "
                "upload the two files of one training"
            )
