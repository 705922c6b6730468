"""Judges the files that lie beside an adapter's weights, and that a merge does not read. Pure.

Trained weights that would change the model's answers are refused, since an artifact without them is another model.
Those that serve training alone, and files that nothing is known of, are named in a note.
"""

import re
from collections.abc import Collection

from ftm_jobs.companions.base_folder import is_irrelevant, listed
from ftm_jobs.errors import InvalidInput, Reason

_TRAINED = re.compile(
    r"(non_lora_trainables|non_lora_state_dict|mm_projector|projector|new_embeddings|learned_embed(ding)?s|"
    r"trainable_params|embeddings?|resampler|connector)\.(safetensors|bin|pt|pth|ckpt)"
)
"""Names by which LLaVA, vLLM, LongLoRA and others save what they train beside LoRA."""
_VALUE_HEAD = re.compile(r"(value_?head|v_?head|reward_?head)\.(safetensors|bin|pt|pth)")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".gguf")
_IRRELEVANT_FOLDERS = re.compile(r"checkpoint-\d+|global_step\d+|runs|logs|wandb|__pycache__|assets|images|figures")


def refuse_trained_weights(uri: str, unread: Collection[str]) -> None:
    """Raises InvalidInput (UnsupportedAdapter) when a file that the merge does not read holds a part of the model."""
    trained = sorted(name for name in unread if _TRAINED.fullmatch(name))
    if trained:
        raise InvalidInput(
            Reason.UNSUPPORTED_ADAPTER,
            f"{uri} holds {trained[0]}, weights that were trained beside LoRA, and the merge cannot add them: merge "
            "with the program that trained them, train those layers as modules_to_save, which the adapter's own file "
            "then holds, or remove the file if the model is to be without them",
        )


def unread_notes(uri: str, unread: Collection[str], folders: Collection[str]) -> tuple[str, ...]:
    """Returns sentences on weights beside an adapter that are not in what is made of it."""
    heads = [name for name in unread if _VALUE_HEAD.fullmatch(name)]
    others = [name for name in unread if name.endswith(_WEIGHTS) and name not in heads and not is_irrelevant(name)]
    others += [f"{name}/" for name in folders if not _IRRELEVANT_FOLDERS.fullmatch(name)]
    notes = []
    if heads:
        notes.append(
            f"left out of the merged model, of {uri}: {listed(heads)}, a head that reinforcement learning trains and "
            "that answers do without"
        )
    if others:
        notes.append(f"not read, beside the adapter in {uri}: {listed(others)}")
    return tuple(notes)
