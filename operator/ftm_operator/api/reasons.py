"""The operator's own reasons, as conditions and Events carry them. A step's reasons are in `ftm_jobs.errors`, a
plan's are the names of the rules in `planning`; docs/reference/status.md has a row for each of them."""

from enum import StrEnum


class OperatorReason(StrEnum):
    INSPECTING = "Inspecting"
    MERGING = "Merging"
    QUANTIZING = "Quantizing"
    NOT_QUANTIZED = "NotQuantized"
    VERIFYING = "Verifying"
    VERIFIED = "Verified"
    VERIFICATION_FAILED = "VerificationFailed"
    ROLLING_OUT = "RollingOut"
    SERVING = "Serving"
    SUSPENDED = "Suspended"
    NOT_REACHED = "NotReached"
    REPLICAS_ANSWER = "ReplicasAnswer"
    NO_REPLICAS = "NoReplicas"

    INVALID_SPEC = "InvalidSpec"
    NO_ARTIFACT_STORE = "NoArtifactStore"
    ARTIFACT_LOST = "ArtifactLost"
    NAME_TAKEN = "NameTaken"
    CHILD_REFUSED = "ChildRefused"
    CONTESTED = "Contested"
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    JOB_FAILED = "JobFailed"
    INCOMPLETE_REPORT = "IncompleteReport"
    ENGINE_OUT_OF_MEMORY = "EngineOutOfMemory"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
