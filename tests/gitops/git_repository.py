"""A git repository on this machine that tests commit manifests to."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUTHOR = {"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.test"}
COMMITTER = {"GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.test"}


@dataclass(frozen=True)
class GitRepository:
    """One branch, `main`; a manifest is a file of its own."""

    folder: Path

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def create(self) -> None:
        self.folder.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")

    def copy(self, folder: Path, to: str) -> None:
        """Takes a folder in; the next commit has it."""
        shutil.copytree(folder, self.folder / to)

    def commit(self, files: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Commits manifests by their path; None removes one."""
        for path, manifest in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if manifest is None:
                file.unlink()
            else:
                file.write_text(json.dumps(manifest, indent=2))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message=change")

    def manifest(self, path: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / path).read_text())
        return content

    def _git(self, *arguments: str) -> None:
        environment = {**os.environ, **AUTHOR, **COMMITTER, "GIT_CONFIG_GLOBAL": os.devnull}
        subprocess.run(["git", *arguments], cwd=self.folder, env=environment, check=True, capture_output=True)
