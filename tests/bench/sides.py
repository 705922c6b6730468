"""One merge in a process of its own: `python -m tests.bench.sides SIDE …` prints its seconds without imports.

Only what the side itself needs is imported here, so that its start and its memory are its own.
"""

import json
import sys
import time


def ours(arguments: list[str]) -> float:
    import torch  # noqa: F401 - its import is not part of these seconds

    import ftm_jobs.merge.row_changes  # noqa: F401
    from ftm_jobs.__main__ import main

    start = time.monotonic()
    code = main(arguments)
    if code:
        sys.exit(code)
    return time.monotonic() - start


def s3_copy(base: str, out: str) -> float:
    """Each object read as one stream and uploaded in parts by boto3, as a script would do it; nothing is hashed."""
    import boto3

    start = time.monotonic()
    client = boto3.client("s3")
    bucket, _, prefix = base.removeprefix("s3://").partition("/")
    out_bucket, _, out_prefix = out.removeprefix("s3://").partition("/")
    for found in client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["Contents"]:
        body = client.get_object(Bucket=bucket, Key=found["Key"])["Body"]
        client.upload_fileobj(body, out_bucket, f"{out_prefix}/{found['Key'].rpartition('/')[2]}")
    return time.monotonic() - start


def peft(base: str, adapter: str, out: str) -> float:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    start = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    return time.monotonic() - start


if __name__ == "__main__":
    side, *rest = sys.argv[1:]
    seconds = {"ours": lambda: ours(rest), "peft": lambda: peft(*rest), "s3-copy": lambda: s3_copy(*rest)}[side]()
    print(json.dumps({"seconds": seconds}), flush=True)
