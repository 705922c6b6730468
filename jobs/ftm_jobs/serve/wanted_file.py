"""Reads the mounted file of wanted adapters when it changes."""

import logging
from pathlib import Path

from ftm_jobs.contract.run_time_adapters import WantedAdapters, wanted_hash

_LOG = logging.getLogger(__name__)


class WantedFile:
    """The file; one that cannot be read, or is about another base, leaves the last good content as it is.

    While pods of another base take over, their adapters are told to all pods of the model: this base must not hold
    them.
    """

    def __init__(self, path: Path, base_digest: str | None = None) -> None:
        self._path = path
        self._base_digest = base_digest
        self._seen: tuple[int, int, int] | None = None
        self.wanted = WantedAdapters(model="")
        self.hash = wanted_hash("")

    def refresh(self) -> bool:
        """Reads the file if it is another than before; returns True if what is wanted may have changed."""
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return False
            text = self._path.read_text()
        except FileNotFoundError:
            seen, text = (0, 0, 0), ""
            if self._seen == seen:
                return False
        except (OSError, UnicodeDecodeError) as error:
            _LOG.warning("%s cannot be read (%s): what was wanted before stays", self._path, error)
            return False
        self._seen = seen
        try:
            wanted = WantedAdapters.model_validate_json(text) if text else _none(self.wanted)
        except ValueError as error:
            problem = " ".join(str(error).split())[:300]
            _LOG.warning("%s is not as the operator writes it (%s): what was wanted before stays", self._path, problem)
            return False
        if self._base_digest and wanted.base and wanted.base != self._base_digest:
            _LOG.warning(
                "%s is about the base %s, not %s: what was wanted before stays",
                self._path,
                wanted.base,
                self._base_digest,
            )
            return False
        self.wanted, self.hash = wanted, wanted_hash(text)
        return True


def _none(before: WantedAdapters) -> WantedAdapters:
    return WantedAdapters(model=before.model)
