"""Holds the places that models, adapters and texts are read from, and the store that artifacts are written to."""

import re
from typing import Annotated, ClassVar

from pydantic import Field

from ftm_operator.api.schema import Resource, Rule, full_match, full_match_cel, matches
from ftm_operator.api.spec.kubernetes_fields import DNS_LABEL, DNS_SUBDOMAIN, ObjectName

HUGGING_FACE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
HUGGING_FACE = rf"hf://{HUGGING_FACE_NAME}/{HUGGING_FACE_NAME}(@[A-Za-z0-9](\.?[A-Za-z0-9_/-])*)?"
S3 = r"s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/\.*[^/,.\x00-\x20\x7f][^/,\x00-\x20\x7f]*)*/?"
CLAIM = rf"pvc://{DNS_SUBDOMAIN}(/\.*[^/,.\x00-\x20\x7f][^/,\x00-\x20\x7f]*)*/?"
FILE = re.compile(r"file:///[^,\x00-\x20\x7f]*")
BUCKET_LENGTH = r"^s3://[^/]{3,63}(/|$)"
SOURCES = "hf://org/name, hf://org/name@revision, s3://bucket/prefix or pvc://claim/path"
STORES = "s3://bucket/prefix or pvc://claim/path"


def _uri(patterns: str, is_not_one: str, instead: str) -> tuple[Rule, Rule, Rule, Rule]:
    matched = full_match(patterns)
    return (
        Rule(
            "{value} can be read by `ftm run` alone: a Pod does not see your files; write " + instead,
            "!self.startsWith('file://')",
            None,
        ),
        Rule(
            "{value} is not an absolute path; write file:///path, with %20 for a space and %2C for a comma",
            None,
            lambda uri: not uri.startswith("file://") or FILE.fullmatch(uri) is not None,
        ),
        Rule(
            "{value} has a bucket's name of fewer than 3 or more than 63 characters; write s3://bucket/prefix",
            f"!self.startsWith('s3://') || self.matches('{BUCKET_LENGTH}')",
            lambda uri: not uri.startswith("s3://") or re.match(BUCKET_LENGTH, uri) is not None,
        ),
        Rule(
            f"{{value}} {is_not_one}; write {instead}",
            f"self.startsWith('file://') || {full_match_cel(patterns)}",
            lambda uri: uri.startswith("file://") or matched(uri),
        ),
    )


URI = Field(min_length=1, max_length=1024)
SourceURI = Annotated[str, URI, *_uri(f"{HUGGING_FACE}|{S3}|{CLAIM}", "is not a source", SOURCES)]
StoreURI = Annotated[str, URI, *_uri(f"{S3}|{CLAIM}", "is not a store that can be written to", STORES)]
NO_SECRET_FOR_A_CLAIM = Rule(
    "a claim is mounted and needs no credentials; remove secretName",
    "!has(self.secretName) || !self.uri.startsWith('pvc://')",
    lambda source: source.secret_name is None or not source.uri.startswith("pvc://"),
)


class Base(Resource):
    """The location of the base model."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: SourceURI
    """The base model's directory: hf://org/name, hf://org/name@revision, s3://bucket/prefix, or pvc://claim/path in a
    PersistentVolumeClaim of this namespace. It is resolved once and pinned; change the annotation ftm.dev/refresh to
    resolve it again."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, by their usual names: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_S3_ADDRESSING_STYLE (path or virtual),
    AWS_NO_SIGN_REQUEST (true: anonymous) and AWS_CA_BUNDLE (certificates), or HF_TOKEN, HF_ENDPOINT and SSL_CERT_FILE
    (certificates)."""


class Adapter(Resource):
    """A LoRA adapter, as PEFT saves it."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matches(DNS_LABEL, "{value} cannot be an adapter's name; write lower-case letters, digits and '-'"),
    ]
    """The adapter's name in messages; no other adapter of the resource has it."""
    uri: SourceURI
    """The adapter's directory, with adapter_config.json and adapter_model.safetensors in it: hf://org/name,
    hf://org/name@revision, s3://bucket/prefix or pvc://claim/path."""
    scale: Annotated[
        float,
        Field(strict=True, ge=-100, le=100, allow_inf_nan=False),
        Rule("0 leaves the adapter out; remove it from adapters", "self != 0.0", lambda scale: scale != 0),
    ] = 1
    """The factor that the adapter's change is multiplied by, besides its own alpha / rank; 1 is as it was trained."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, under the same keys as the base's."""


class OCIRepository(Resource):
    """A repository of an OCI registry."""

    repository: Annotated[
        str,
        Field(min_length=3, max_length=255),
        matches(
            r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+",
            "{value} is not a repository; write registry/repository in lower-case letters, without a tag",
        ),
    ]
    """The registry's host and the repository: registry.example.com/models. Each image is tagged with its artifact's
    key and used by its digest."""
    secret_name: ObjectName | None = None
    """A Secret of the type kubernetes.io/dockerconfigjson in this namespace, with which the image is pushed and pulled;
    absent: no credentials."""


class ArtifactStore(Resource):
    """The store of finished artifacts."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: StoreURI
    """A prefix that the operator's Jobs may write to: s3://bucket/prefix, or pvc://claim/path in a
    PersistentVolumeClaim of this namespace. Each artifact is a directory in it, named by its key; resources that build
    the same thing from the same inputs share it."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for the store, under the same keys as the base's."""
    oci: OCIRepository | None = None
    """A repository of a registry that the artifact that is served is published to as well, as an OCI image; absent:
    none."""


class Calibration(Resource):
    """Text that a quantizer reads, and that its result is measured on."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: Annotated[
        SourceURI,
        Rule("{value} is not a .jsonl file; name one", "self.endsWith('.jsonl')", lambda uri: uri.endswith(".jsonl")),
    ]
    """A .jsonl file in a store: a line for each sample, with a text or with the messages of a conversation."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, under the same keys as the base's."""
