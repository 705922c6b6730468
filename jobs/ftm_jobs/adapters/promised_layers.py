"""Names the layers that adapter_config.json promises to adapt and whose tensors the adapter lacks. Pure.

PEFT warns of them ("Found missing adapter keys") and leaves them as the base has them, and so does a merge. Which
layers are promised is PEFT's rule (peft/tuners/tuners_utils.py, check_target_module_exists) over the base's matrices.
Only layers beside adapted ones count: an adapter that was trained on the language model alone promises nothing of a
vision tower. Where a matrix on disk need not be a layer of its own in memory (experts, routers, layers that share
their keys and values, layers beyond the decoder), nothing is said.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import LowRank, Update
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS
from ftm_jobs.checkpoint.tensor_groups import is_beyond
from ftm_jobs.companions.base_folder import first_few
from ftm_jobs.contract.config import ModelConfig

_WEIGHT = ".weight"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_ROUTERS = ("gate", "router", "shared_expert_gate")
_SHARED = ("k_proj", "v_proj")


@dataclass(frozen=True)
class Targets:
    """The fields of adapter_config.json that say which layers are adapted, as PEFT reads them."""

    content: Mapping[str, Any]

    @property
    def all_linear(self) -> bool:
        return self.content.get("target_modules") == "all-linear"

    def named(self, module: str) -> bool:
        """Says whether the layer is named, by PEFT's name of it. Raises re.error."""
        targets = self.content.get("target_modules") or []
        if self._excluded(module):
            return False
        if isinstance(targets, str):
            return self.all_linear or re.fullmatch(targets, module) is not None
        if module in targets:
            return True
        return _ends_with(module, targets) and self._transformed(module)

    def _excluded(self, module: str) -> bool:
        excluded, saved = self.content.get("exclude_modules") or [], self.content.get("modules_to_save") or []
        if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in saved):
            return True
        if isinstance(excluded, str):
            return re.fullmatch(excluded, module) is not None
        return module in excluded or _ends_with(module, excluded)

    def _transformed(self, module: str) -> bool:
        wanted = self.content.get("layers_to_transform")
        if wanted is None or wanted == []:
            return True
        patterns = self.content.get("layers_pattern") or []
        begun = [rf"(?:^|.*?\.){pattern}" for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
        for beginning in begun or [r".*?\.[^.]*"]:
            if match := re.match(rf"{beginning}\.(\d+)\.", module):
                return int(match[1]) in (wanted if isinstance(wanted, list) else [wanted])
        return False


def missing_layers(
    base: BaseTensors,
    config: ModelConfig,
    adapter: AppliedAdapter,
    content: Mapping[str, Any],
    updates: Sequence[Update],
) -> str | None:
    """Returns a sentence that names the layers; None where there are none, or where it cannot be known.

    `config` is the base's, `content` all of adapter_config.json.
    """
    changes = [(update.weight, update.change) for update in updates if isinstance(update.change, LowRank)]
    plain = [(weight, change.module) for weight, change in changes if change.expert is None]
    if not plain or not content.get("target_modules"):
        return None
    prefixes = _prefixes(plain)
    adapted = {update.weight for update in updates}
    targets, groups = Targets(content), {_group(weight) for weight, _ in plain}
    try:
        missing = [
            module
            for weight in _candidates(base, config, {weight for weight, _ in plain})
            if weight not in adapted and (_group(weight) in groups or not targets.all_linear)
            if targets.named(module := _in_memory(weight, prefixes))
        ]
    except re.error:
        return None
    if not missing:
        return None
    return (
        f"{adapter.file} lacks {len(missing)} of the layers that target_modules in adapter_config.json promises: "
        f"{first_few(missing)}; they stay as the base has them"
    )


def _candidates(base: BaseTensors, config: ModelConfig, adapted: Iterable[str]) -> list[str]:
    """Returns the base's matrices that PEFT may adapt, in the stacks of layers that have adapted ones."""
    stacks = {_stack(weight) for weight in adapted}
    sections = [config.content, *(part for part in config.content.values() if isinstance(part, dict))]
    unsaid = (*_ROUTERS, *(_SHARED if any(part.get("num_kv_shared_layers") for part in sections) else ()))
    found = []
    for name, stored in base.by_name.items():
        module = name.removesuffix(_WEIGHT)
        last = module.rpartition(".")[2]
        if not name.endswith(_WEIGHT) or len(stored.tensor.shape) != 2 or last in unsaid:
            continue
        if (
            "experts" in name.split(".")
            or base.names.is_parameter(name)
            or (config.layers is not None and is_beyond(name, config.layers))
        ):
            continue
        single = last in (*INPUT_EMBEDDINGS, *OUTPUT_LAYERS) and not base.tied_embeddings
        if _stack(name) in stacks or single:
            found.append(name)
    return found


def _prefixes(adapted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns beginnings of names in memory by those on disk."""
    prefixes: dict[str, str] = {}
    for weight, module in adapted:
        stored, named = weight.removesuffix(_WEIGHT).split("."), module.split(".")
        while stored and named and stored[-1] == named[-1]:
            stored.pop()
            named.pop()
        prefixes[".".join(stored)] = ".".join(named)
    return prefixes


def _in_memory(weight: str, prefixes: Mapping[str, str]) -> str:
    module = weight.removesuffix(_WEIGHT)
    for stored in sorted(prefixes, key=len, reverse=True):
        if stored and module.startswith(f"{stored}."):
            return f"{prefixes[stored]}{module[len(stored) :]}".removeprefix(".")
        if not stored and prefixes[stored]:
            return f"{prefixes[stored]}.{module}"
    return module


def _group(weight: str) -> str:
    return _NUMBER.sub("*", weight)


def _stack(weight: str) -> str:
    """Returns the name up to its first number."""
    return _NUMBER.split(weight)[0]


def _ends_with(module: str, names: Iterable[str]) -> bool:
    return any(module.endswith(f".{name}") for name in names)
