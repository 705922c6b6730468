"""Reads PEFT's names for modules that were trained whole (modules_to_save), as they lie in adapters' files.

PEFT holds such a module twice: `original_module` is the base's, `modules_to_save.<adapter>` the trained one. It saves
the trained one under the base's name. An embedding whose vocabulary grew it saves once more, under the names in memory
without the adapter's (peft/utils/save_and_load.py, get_peft_model_state_dict). Loading, PEFT takes the base's name.
Pure.
"""

import re
from collections.abc import Collection

_COPY = re.compile(
    r"\.(?P<kind>modules_to_save|original_module)(?:\.default(?=\.)|\.[^.]+(?=\.(?:weight|bias)$))?(?=\.)"
)
_KINDS = ("", "modules_to_save", "original_module")
"""The one that counts first."""


def without_copies(names: Collection[str]) -> dict[str, str]:
    """Returns the names that count, in order, with the base's name of each.

    A trained module's other copies do not count, nor does the base's own beside it.
    """
    best: dict[str, str] = {}
    for name in names:
        other = best.setdefault(_without_copy(name), name)
        if _KINDS.index(_kind(name)) < _KINDS.index(_kind(other)):
            best[_without_copy(name)] = name
    counted = set(best.values())
    return {
        name: name if _kind(name) == "original_module" else _without_copy(name) for name in names if name in counted
    }


def _kind(name: str) -> str:
    copy = _COPY.search(name)
    return copy["kind"] if copy else ""


def _without_copy(name: str) -> str:
    return _COPY.sub("", name, count=1)
