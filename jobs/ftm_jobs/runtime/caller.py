"""Knows who reads a step's messages: the owner of a resource in a cluster, or a person at a terminal.

A Job's settings are its resource's: a Secret, an annotation, spec.jobs.resources. A person has an environment. The
`ftm` command says that a person called it, also from a shell in a pod.
"""

import os

from ftm_jobs.contract.caller import CALLED_BY, PERSON


def is_job() -> bool:
    """Says whether this is a Job's pod, and no person's shell in a pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and os.environ.get(CALLED_BY) != PERSON


def advice(to_job: str, to_person: str) -> str:
    """Returns the advice that fits who reads it."""
    return to_job if is_job() else to_person


def more_memory() -> str:
    """Returns how to give a step more memory."""
    return advice("give the Job more (spec.jobs.resources)", "end other programs, or use a machine with more")


def take_the_new_one() -> str:
    """Returns how to take a source that has changed."""
    return advice(
        "set the annotation ftm.dev/refresh to take the new one", "run this again from its start to take the new one"
    )
