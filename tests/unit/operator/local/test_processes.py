"""A process ends with the one that started it, and a signal ends both in good order: with real processes."""

import signal
import subprocess
import sys
import time

import pytest

FTM_LIKE = """
import sys, time
from ftm_operator.local.errors import Stopped
from ftm_operator.local.processes import running, stop_on_signals
stop_on_signals()
try:
    with running([sys.executable, "-c", {child!r}], {seconds}) as process:
        process.wait()
except Stopped as stopped:
    print(stopped.message, process.returncode, flush=True)
    sys.exit(stopped.exit_code)
"""
WILLING = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True)); "
    + WILLING
    + "; time.sleep(60)"
)
DROPPED = """
import os, signal, time
from ftm_operator.local.processes import stop_on_signals
class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
stop_on_signals()
del [Freed()][0]
print("begun", flush=True)
time.sleep(60)
"""


def started(script: str) -> "tuple[subprocess.Popen[str], str]":
    """The process, and the first line that it or its child prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def is_running(pid: str) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    return bool(status.strip()) and not status.startswith("Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_both_and_the_exit_code_is_the_shells(number: signal.Signals) -> None:
    process, child = started(FTM_LIKE.format(child=WILLING, seconds=60))
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (128 + number, f"stopped {-signal.SIGTERM}\n", "")
    assert not is_running(child)


def test_what_does_not_end_in_time_is_killed() -> None:
    process, child = started(FTM_LIKE.format(child=DEAF, seconds=0.1))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (143, f"told\nstopped {-signal.SIGKILL}\n")
    assert not is_running(child)


def test_a_second_ctrl_c_ends_both_at_once_and_a_second_sigterm_takes_no_time_away() -> None:
    process, child = started(FTM_LIKE.format(child=DEAF, seconds=60))
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    assert process.stdout.readline() == "told\n"
    process.send_signal(signal.SIGTERM)  # as `timeout` does, to the process and to its group
    time.sleep(0.2)
    assert process.poll() is None
    assert is_running(child)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not is_running(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_process_does_not_go_on_alone_when_its_parent_is_killed() -> None:
    process, child = started(FTM_LIKE.format(child=WILLING, seconds=60))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)
    process.communicate()


def test_a_signal_that_comes_where_python_drops_what_is_raised_is_not_lost() -> None:
    process, begun = started(DROPPED)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, begun, err) == (143, "begun", "")
