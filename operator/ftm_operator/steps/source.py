"""Names the sources of a step as `python -m ftm_jobs` reads them, and as the spec and the facts name them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel

CREDENTIALS = "/var/run/ftm"
"""The folder under which a Job finds its Secrets."""


@dataclass(frozen=True)
class SourceArgument:
    """One SOURCE argument of a step and the Secret that it is read with."""

    role: str
    """base, adapter-0, …, model, quantized, calibration, artifacts."""
    uri: str
    secret_name: str | None
    digest: str | None = None
    scale: float = 1.0
    writable: bool = False

    @property
    def claim(self) -> str | None:
        """Returns the PersistentVolumeClaim that holds it, if one does."""
        scheme, _, rest = self.uri.partition("://")
        return rest.partition("/")[0] if scheme == "pvc" else None

    @property
    def credentials(self) -> str:
        """Returns the folder of the mounted Secret, whose path names the role and the Secret in a step's messages."""
        return f"{CREDENTIALS}/{self.role}/{self.secret_name}"

    def argument(self) -> str:
        """Returns URI[,scale=S][,digest=D][,credentials=DIR]."""
        return ",".join(
            [
                self.uri,
                *([f"scale={self.scale}"] if self.scale != 1.0 else []),
                *([f"digest={self.digest}"] if self.digest else []),
                *([f"credentials={self.credentials}"] if self.secret_name else []),
            ]
        )


def spec_sources(model: FineTunedModel) -> tuple[SourceArgument, ...]:
    """Returns the base and the adapters as the spec names them."""
    spec = model.spec
    return (
        SourceArgument("base", spec.base.uri, spec.base.secret_name),
        *(
            SourceArgument(f"adapter-{index}", adapter.uri, adapter.secret_name, scale=adapter.scale)
            for index, adapter in enumerate(spec.adapters)
        ),
    )


def inspected_sources(model: FineTunedModel, facts: Facts) -> tuple[SourceArgument, ...]:
    """Returns the base and the adapters as they were inspected: resolved URIs, held to their digests."""
    inspected = [(facts.base.uri, facts.base.digest), *((adapter.uri, adapter.digest) for adapter in facts.adapters)]
    return tuple(
        SourceArgument(source.role, uri, source.secret_name, digest, source.scale)
        for source, (uri, digest) in zip(spec_sources(model), inspected, strict=True)
    )


def artifact_source(artifact: Artifact, store: SourceArgument, role: str = "model") -> SourceArgument:
    """Returns an artifact as a later step reads it: with the store's Secret, held to its digest."""
    return SourceArgument(role, artifact.uri, store.secret_name, artifact.digest)


def calibration_source(model: FineTunedModel) -> SourceArgument | None:
    """Returns the spec's calibration text; None where the bundled text is used."""
    calibration = model.spec.quantization.calibration
    return SourceArgument("calibration", calibration.uri, calibration.secret_name) if calibration else None


def source_arguments(sources: Sequence[SourceArgument]) -> tuple[str, ...]:
    """Returns --base and --adapter with their values; the first source is the base."""
    base, *adapters = sources
    return ("--base", base.argument(), *(word for one in adapters for word in ("--adapter", one.argument())))
