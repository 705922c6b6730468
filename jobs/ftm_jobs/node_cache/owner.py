"""Gives a node's folder to the user whose pods share it: the kubelet makes such a folder as root's."""

import os
from pathlib import Path

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain

_FOR_OWNER_AND_GROUP = 0o770
"""The mode of the folder: a pod's containers share its fsGroup, whatever user each runs as."""


def give_to(folder: Path, user: int, group: int) -> bool:
    """Gives an empty folder to a user and a group, for whom alone it is then; returns False where it was theirs.

    Raises InvalidInput (AccessDenied) where somebody else's files are in it.
    """
    try:
        owner = folder.stat().st_uid
        if owner == user:
            return False
        if any(folder.iterdir()):
            raise InvalidInput(
                Reason.ACCESS_DENIED,
                f"the cache's folder belongs to user {owner} of the node and is not empty, and the pods run as user "
                f"{user}: set spec.serving.cache.hostPath to another folder, or give this one to user {user}",
            )
        folder.chmod(_FOR_OWNER_AND_GROUP)
        os.chown(folder, user, group)
    except OSError as error:
        raise explain(error, f"the cache {folder}", "give spec.serving.cache another place") from error
    return True
