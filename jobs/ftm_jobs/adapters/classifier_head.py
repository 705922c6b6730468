"""Matches the head of a classifier, which PEFT trains beside an adapter and no language model has. Pure."""

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Replace, Update
from ftm_jobs.adapters.mismatch import unsupported_adapter
from ftm_jobs.checkpoint.embeddings import layer_of
from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.contract.keys import ClassifierTask

HEADS = ("score", "classifier")
"""PEFT's names of heads (peft/peft_model.py, PeftModelForSequenceClassification)."""


def is_classifier_head(name: str) -> bool:
    """Returns whether an adapter's tensor belongs to a classifier's head, as score.weight does."""
    return layer_of(name) in HEADS


def head_update(base: BaseTensors, adapter: AppliedAdapter, name: str, tensor: Tensor) -> Update:
    """Returns the update that gives the merged model a head.

    Raises InvalidInput (UnsupportedAdapter) where no classifier was asked for, or another.
    """
    trained = adapter.config.task_type
    if adapter.task is None:
        tasks = [task for task in ClassifierTask if trained not in [*ClassifierTask] or task == trained]
        raise unsupported_adapter(
            f'{adapter.file} tensor "{tensor.name}" is the head of a classifier, which {base.uri} does not have, '
            f"and no chat engine serves one: merge it all the same with ftm merge --task {' or '.join(tasks)}"
        )
    if trained in [*ClassifierTask] and trained != adapter.task:
        raise unsupported_adapter(
            f"{adapter.file} was trained with task_type {trained}, not {adapter.task}: merge it with --task {trained}"
        )
    return Update(name, Replace(adapter.number, tensor), in_module=True)
