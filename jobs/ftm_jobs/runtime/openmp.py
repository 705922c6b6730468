"""Sets how OpenMP's threads, which torch and llama.cpp compute with, wait for each other."""

import os


def wait_without_spinning() -> None:
    """Lets OpenMP's threads sleep while they wait, in this process and its children; has effect before torch's import.

    They spin by default, which on a busy node takes the processor from the threads that are waited for. A value that
    the environment gives already stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
