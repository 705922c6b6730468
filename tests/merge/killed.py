"""Merges that are killed: `python -m tests.merge.killed KILLS SEED ARTIFACTS -- ARGUMENTS` of the merge step.

Each merge is a fork of this process, which has imported what a merge needs, so that kills fall into the merge and not
into imports. After each kill the artifact is either not there or whole. Prints how many were killed before they ended.
"""

import hashlib
import os
import random
import signal
import sys
import time

import torch  # noqa: F401 - forks have it

import ftm_jobs.merge.row_changes
import ftm_jobs.stores.s3  # noqa: F401
from ftm_jobs.__main__ import main
from ftm_jobs.artifacts import manifest
from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.stores import WritableStore, open_artifacts
from ftm_jobs.stores.source import parse_source


def merge(arguments: list[str], kill_after: float | None) -> bool:
    """Returns whether it ended by itself. Raises RuntimeError when it failed."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os._exit(main(arguments))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError(f"a merge after killed ones ended with {code}")
    return code == 0


def is_whole(folder: WritableStore) -> bool:
    """Raises RuntimeError when a manifest is there and a file is not what it says."""
    files = folder.list()
    found = manifest.read_manifest(folder, files)
    if found is None:
        return False
    for file in found[0].files:
        content = folder.read(file.path, 0, files[file.path])
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise RuntimeError(f"{folder.describe(file.path)} is not what {MANIFEST_NAME} says")
    return True


def run(kills: int, seed: int, artifacts: str, arguments: list[str]) -> int:
    start = time.monotonic()
    merge(arguments, None)
    undisturbed = time.monotonic() - start
    chance = random.Random(seed)
    store = open_artifacts(parse_source(artifacts))
    (folder,) = (store.child(name) for name in store.children())
    killed = 0
    while killed < kills:
        if is_whole(folder):
            folder.delete(MANIFEST_NAME)
            for name in folder.list():
                folder.delete(name)
        killed += not merge(arguments, chance.uniform(0, undisturbed))
    merge(arguments, None)
    if not is_whole(folder):
        raise RuntimeError("a merge that ended well left no whole artifact")
    return killed


if __name__ == "__main__":
    count, seed_text, place, _, *rest = sys.argv[1:]
    print(run(int(count), int(seed_text), place, rest))
