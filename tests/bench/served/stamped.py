"""Copies lines from stdin to stdout with the time before each, as Kubernetes does with a container's log."""

import sys
from datetime import UTC, datetime

if __name__ == "__main__":
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(datetime.now(UTC).isoformat().encode() + b" " + line)
        sys.stdout.buffer.flush()
