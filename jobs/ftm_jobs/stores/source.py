"""Parses SOURCE, as the command line takes it: `URI[,scale=S][,digest=sha256:…][,credentials=DIR]`.

Pure text: nothing is opened here. A URI is hf://org/name[@revision], s3://bucket[/prefix], pvc://claim[/path] or
file:///absolute/path.
"""

import difflib
import math
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ftm_jobs.errors import InvalidInput, Reason

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_BUCKET_CHARACTERS = f"{string.ascii_lowercase}{string.digits}._-"
_HF_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HF_REPOSITORY = re.compile(rf"(?!\.){_HF_NAME.pattern}/{_HF_NAME.pattern}")
_HF_PAGE = re.compile(r"(https?://)?(www\.)?(huggingface\.co|hf\.co)/(?P<repository>[^/]+/[^/]+)(/.*)?")
_HF_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Location:
    """A parsed URI. `root` is the bucket, the repository, the claim or the absolute path."""

    uri: str
    scheme: str
    root: str
    prefix: str = ""
    """Below the bucket or in the claim, without slashes at either end."""
    revision: str | None = None


@dataclass(frozen=True)
class Source:
    location: Location
    scale: float = 1.0
    digest: str | None = None
    """The digest that the source must have."""
    credentials: Path | None = None
    """A folder with one file per key, as Kubernetes mounts a Secret; without it, the process's environment."""
    hashed: bool = True
    """Local files are hashed to know what they are; False: only those that were hashed before are known."""

    @property
    def uri(self) -> str:
        return self.location.uri


def parse_source(text: str, *, scalable: bool = False) -> Source:
    """Raises InvalidInput (InvalidURI) that names the part of `text` that is wrong."""
    uri, *options = text.split(",")
    values: dict[str, str] = {}
    allowed = ("scale", "digest", "credentials") if scalable else ("digest", "credentials")
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f": did you mean {near[0]}=…?" if near else ""
            raise _invalid(f'"{option}" in "{text}" is not one of {", ".join(f"{name}=…" for name in allowed)}{hint}')
        if name in values:
            raise _invalid(f'"{text}" gives {name} twice: keep one')
        values[name] = value
    return Source(
        location=parse_uri(uri),
        scale=_scale(values["scale"], text) if "scale" in values else 1.0,
        digest=_digest(values["digest"], text) if "digest" in values else None,
        credentials=Path(values["credentials"]) if values.get("credentials") else None,
    )


def parse_uri(uri: str) -> Location:
    """Raises InvalidInput (InvalidURI)."""
    scheme, separator, rest = uri.partition("://")
    parsers: dict[str, Callable[[str, str], Location]] = {"s3": _s3, "hf": _hf, "pvc": _pvc, "file": _file}
    if not separator or scheme not in parsers:
        page = _HF_PAGE.fullmatch(uri)
        repository = page["repository"] if page else uri
        hint = f"; the Hub's repository is hf://{repository}" if _HF_REPOSITORY.fullmatch(repository) else ""
        raise _invalid(
            f'"{uri}" is not a URI of a store: write hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path '
            f"or file:///path{hint}"
        )
    return parsers[scheme](uri, rest)


def _s3(uri: str, rest: str) -> Location:
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    if wrong := _wrong_bucket(bucket):
        raise _invalid(f'"{uri}" has "{bucket}" where a bucket\'s name must be, {wrong}: write s3://bucket/prefix')
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise _invalid(f'"{uri}" has an empty, "." or ".." part in its prefix: write s3://bucket/prefix')
    return Location(f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}", "s3", bucket, prefix)


def _wrong_bucket(name: str) -> str:
    """Returns how a name breaks the rules of bucket names; empty where it keeps them."""
    if not 3 <= len(name) <= 63:
        return f"of 3 to 63 characters and not of {len(name)}"
    if name != name.lower():
        return "which has upper-case letters"
    if other := sorted(set(name) - set(_BUCKET_CHARACTERS)):
        return f"which has {other[0]!r}, not only letters, digits, dots and hyphens"
    return "" if _BUCKET.fullmatch(name) else "which begins or ends with neither a letter nor a digit"


def _hf(uri: str, rest: str) -> Location:
    repository, at, revision = rest.partition("@")
    parts = repository.split("/")
    if len(parts) > 2:
        raise _invalid(
            f'"{uri}" is not hf://org/name[@revision], since it names a folder in a repository: download that folder '
            "and name it by its path"
        )
    if len(parts) != 2 or not all(_HF_NAME.fullmatch(part) for part in parts):
        raise _invalid(f'"{uri}" is not hf://org/name[@revision]: write the organisation and the repository\'s name')
    if at and (not _HF_REVISION.fullmatch(revision) or ".." in revision):
        raise _invalid(
            f'"{uri}" has "{revision}" where a branch, a tag or a commit must be: write hf://org/name@revision'
        )
    return Location(uri, "hf", repository, revision=revision or None)


def _pvc(uri: str, rest: str) -> Location:
    claim, _, path = rest.partition("/")
    path = path.rstrip("/")
    if not _CLAIM.fullmatch(claim):
        raise _invalid(f'"{uri}" has "{claim}" where a PersistentVolumeClaim\'s name must be: write pvc://claim/path')
    if "\0" in path or (path and any(part in ("", ".", "..") for part in path.split("/"))):
        raise _invalid(f'"{uri}" has an empty, "." or ".." part in its path: write pvc://claim/path')
    return Location(f"pvc://{claim}/{path}" if path else f"pvc://{claim}", "pvc", claim, path)


def _file(uri: str, rest: str) -> Location:
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise _invalid(f'"{uri}" names a host: write file:///absolute/path')
    path = "/" + unquote(path).strip("/")
    if "\0" in path or any(part in (".", "..") for part in path.split("/")):
        raise _invalid(f'"{uri}" has a ".", a ".." or a zero byte in its path: write file:///absolute/path')
    return Location(Path(path).as_uri(), "file", path)


def _scale(value: str, text: str) -> float:
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale) or scale == 0:
        raise _invalid(f'scale "{value}" in "{text}" is not a finite number other than 0')
    return scale


def _digest(value: str, text: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise _invalid(f'digest "{value}" in "{text}" is not sha256: and 64 hexadecimal digits')
    return value


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_URI, message)
