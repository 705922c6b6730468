"""Gets all objects below a prefix in one way: `python -m tests.bench.fetch_sides SIDE S3-URI DIR`.

Prints its seconds, without imports, the client and the listing. Keys and endpoint come from the environment. All but
`ours` prove nothing.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes of a range of the loop, as many as ours reads at once."""
THREADS = 10
"""As many as boto3's transfers take by default."""


def ours(uri: str, folder: Path) -> float:
    """Fetches the artifact as a serving pod does."""
    from ftm_jobs.artifacts.fetch import fetch_files, open_artifact
    from ftm_jobs.stores import open_store
    from ftm_jobs.stores.source import parse_source

    source = parse_source(uri)
    store = open_store(source)
    manifest, text, artifact = open_artifact(store, source)
    start = time.monotonic()
    fetch_files(store, manifest.files, folder, text, artifact)
    return time.monotonic() - start


def transfers(uri: str, folder: Path) -> float:
    """Downloads each object by boto3's own transfers, which read ranges by ten threads."""
    client, bucket, keys = _objects(uri)
    start = time.monotonic()
    for key in keys:
        client.download_file(bucket, key, str(folder / _name(key)))
    return time.monotonic() - start


def ranges(uri: str, folder: Path) -> float:
    """Reads ranges of all objects by ten threads, and writes each where it belongs."""
    client, bucket, keys = _objects(uri)
    start = time.monotonic()
    files = {key: os.open(folder / _name(key), os.O_CREAT | os.O_WRONLY) for key in keys}

    def keep(key: str, data: memoryview, offset: int) -> None:
        while len(data):
            written = os.pwrite(files[key], data, offset)
            data, offset = data[written:], offset + written

    _read(client, bucket, keys, keep)
    for descriptor in files.values():
        os.close(descriptor)
    return time.monotonic() - start


def ranges_to_nowhere(uri: str, folder: Path) -> float:  # noqa: ARG001 - nothing is kept
    """Reads ranges as `ranges` does, and writes nothing."""
    client, bucket, keys = _objects(uri)
    start = time.monotonic()
    _read(client, bucket, keys, lambda *_: None)
    return time.monotonic() - start


def _read(client: Any, bucket: str, keys: Mapping[str, int], keep: Callable[[str, memoryview, int], None]) -> None:
    own = threading.local()

    def get(key: str, offset: int, size: int) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = memoryview(bytearray(BLOCK_BYTES))
        wanted = f"bytes={offset}-{offset + size - 1}"
        with client.get_object(Bucket=bucket, Key=key, Range=wanted)["Body"] as body:
            done = 0
            while done < size:
                count = body.readinto(own.buffer[done:size])
                assert count, f"{key} broke off at {offset + done}"
                done += count
        keep(key, own.buffer[:size], offset)

    with ThreadPoolExecutor(THREADS) as pool:
        blocks = [(key, offset, size) for key, size in keys.items() for offset in range(0, size, BLOCK_BYTES)]
        parts = [pool.submit(get, key, offset, min(BLOCK_BYTES, size - offset)) for key, offset, size in blocks]
        for part in parts:
            part.result()


def _objects(uri: str) -> tuple[Any, str, dict[str, int]]:
    """Returns a client, the bucket, and the objects' sizes by their keys."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, max_pool_connections=32)
    client = boto3.client("s3", config=config)
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return client, bucket, {found["Key"]: found["Size"] for page in pages for found in page["Contents"]}


def _name(key: str) -> str:
    return key.rpartition("/")[2]


SIDES = {each.__name__: each for each in (ours, transfers, ranges, ranges_to_nowhere)}


if __name__ == "__main__":
    side, uri, folder = sys.argv[1:]
    print(json.dumps({"seconds": SIDES[side](uri, Path(folder))}), flush=True)
