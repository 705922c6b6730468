"""Sends the log of the Jobs' own modules to stderr, each record as one plain line."""

import logging
import sys

from ftm_jobs.runtime.progress import Progress

LOGGER = "ftm_jobs"


class StandardErrorLines(logging.Handler):
    """Writes to the stderr of the moment, so that whoever redirects it sees the log too."""

    def emit(self, record: logging.LogRecord) -> None:
        Progress.end_line()
        print(self.format(record), file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Sets the log up once for the process; other libraries' records stay where Python sends them."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, StandardErrorLines) for handler in logger.handlers):
        logger.addHandler(StandardErrorLines())
