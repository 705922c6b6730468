"""`ftm bench` asks a model by way of its Service, on a real node, while each of its Pods is replaced by another."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.progress import say
from tests.cluster.service import reached
from tests.platform.platform import NAME, SERVING, Platform

pytestmark = pytest.mark.timeout(3000)
REQUESTS, STREAMS, OUTPUT_TOKENS = 40, 4, 24
TENANT = "south"


@contextmanager
def under_load(address: str) -> Iterator[list[dict[str, Any]]]:
    """Runs `ftm bench` again and again while the block lasts, and gives the JSON of each run."""
    runs: list[dict[str, Any]] = []
    troubles: list[str] = []
    over = threading.Event()
    sizes = ["-N", str(REQUESTS), "-c", str(STREAMS), "--output-tokens", str(OUTPUT_TOKENS), "--ignore-eos"]
    command = [str(Path(sys.executable).with_name("ftm")), "bench", f"http://{address}", "--model", NAME, *sizes]

    def ask_on() -> None:
        while not over.is_set():
            done = subprocess.run([*command, "--warm-up", "0", "-o", "json"], capture_output=True, text=True)
            if done.returncode:
                troubles.append(done.stderr)
                return
            runs.append(json.loads(done.stdout))

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield runs
    finally:
        over.set()
        thread.join()
    assert not troubles, troubles


def test_a_rolling_update_under_load_loses_no_request(platform: Platform) -> None:
    platform.keep(TENANT)
    pods = {each["metadata"]["name"] for each in platform.kubectl.list("pods", "-l", "ftm.dev/step=serve")}
    changed = [*SERVING["env"], {"name": "ROLLED_OUT", "value": "again"}]
    with under_load(reached(platform.kubectl, NAME)) as runs:
        platform.serve(TENANT, strategy="Surge", env=changed)
        before = len(runs)
        platform.story.eventually("a whole run with the new Pod alone", lambda: len(runs) > before + 1)
    failed, completed = (sum(each[key] for each in runs) for key in ("failed", "completed"))
    say(f"ftm bench: {completed} requests were answered in {len(runs)} runs, and {failed} failed")
    assert failed == 0
    assert completed == REQUESTS * len(runs)
    assert not pods & {each["metadata"]["name"] for each in platform.kubectl.list("pods", "-l", "ftm.dev/step=serve")}
