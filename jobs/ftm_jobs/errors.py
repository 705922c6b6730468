"""The ways in which a step ends other than well.

    StepError
    ├── InvalidInput     the input is wrong and a retry is useless; exit code 2
    └── Failed           anything that a retry may cure; exit code 1
    Interrupted          SIGTERM or Ctrl-C; exit code 1; passes through `except Exception`

A message is one sentence that names the object, the file and tensor or field, the value, and what to do. It becomes
a condition's message as it is. Imports no store and no torch.
"""

import re
from enum import StrEnum

from ftm_jobs.contract.steps import Outcome


class Reason(StrEnum):
    """CamelCase, as conditions and Events want them."""

    INSPECTED = "Inspected"
    MERGED = "Merged"
    ALREADY_MERGED = "AlreadyMerged"
    QUANTIZED = "Quantized"
    ALREADY_QUANTIZED = "AlreadyQuantized"
    FETCHED = "Fetched"
    KEPT = "AdapterKept"
    LISTED = "Listed"
    VERIFIED = "Verified"
    SERVED_AS_VERIFIED = "ServedAsVerified"
    SERVED_DIFFERS = "ServedDiffers"
    SERVED_UNPROVEN = "ServedUnproven"
    ADAPTER_HAS_NO_EFFECT = "AdapterHasNoEffect"
    MERGE_DIFFERS = "MergeDiffers"
    CONFIG_DIFFERS = "ConfigDiffers"
    TOKENIZER_DIFFERS = "TokenizerDiffers"
    WORSE_THAN_ROUNDING = "WorseThanRounding"
    DIVERGENCE_TOO_LARGE = "DivergenceTooLarge"
    ANSWER_UNEXPECTED = "AnswerUnexpected"
    COLLECTED = "Collected"
    AGENT_STOPPED = "AgentStopped"
    CACHE_READY = "CacheReady"
    CACHE_RELEASED = "CacheReleased"
    PUSHED = "Pushed"
    PUBLISHED = "Published"
    ALREADY_PUBLISHED = "AlreadyPublished"

    ACCESS_DENIED = "AccessDenied"
    BUCKET_NOT_FOUND = "BucketNotFound"
    SOURCE_NOT_FOUND = "SourceNotFound"
    INVALID_URI = "InvalidURI"
    MISSING_FILE = "MissingFile"
    PICKLE_WEIGHTS = "PickleWeights"
    INVALID_SAFETENSORS = "InvalidSafetensors"
    INVALID_INDEX = "InvalidIndex"
    INVALID_CONFIG = "InvalidConfig"
    UNSUPPORTED_ADAPTER = "UnsupportedAdapter"
    UNSUPPORTED_BASE = "UnsupportedBase"
    ADAPTER_MISMATCH = "AdapterMismatch"
    NOT_SERVED_UNMERGED = "NotServedUnmerged"
    SOURCE_CHANGED = "SourceChanged"
    CORRUPT_SOURCE = "CorruptSource"
    CORRUPT_ARTIFACT = "CorruptArtifact"
    DESTINATION_TAKEN = "DestinationTaken"
    INVALID_SIZE = "InvalidSize"
    INVALID_PROMPTS = "InvalidPrompts"
    INVALID_CALIBRATION = "InvalidCalibration"
    UNKNOWN_TYPE = "UnknownType"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    UNSUITABLE_WIDTHS = "UnsuitableWidths"
    RUINED_RESULT = "RuinedResult"

    STORE_UNAVAILABLE = "StoreUnavailable"
    ENGINE_REFUSED = "EngineRefused"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    DISK_FULL = "DiskFull"
    OUT_OF_MEMORY = "OutOfMemory"
    INTERRUPTED = "Interrupted"
    INTERNAL_ERROR = "InternalError"


_ERROR_NUMBER = re.compile(r"\[[Ee]rrno -?\d+\] ?")
"""Written by Python before what an operating system refused, inside of texts of libraries too."""
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONGEST_MESSAGE = 1500
"""Characters: a termination message has room for it beside the rest of a report."""
_SHOWN_END = 400
"""Characters, in which a message says what to do."""


class StepError(Exception):
    outcome: Outcome

    def __init__(self, reason: Reason, message: str) -> None:
        """`message` may quote what a file holds, whatever that is.

        A line break in it is written as \\n, so that it stays one line, and of more than LONGEST_MESSAGE characters
        those in the middle are left out. The operating system's numbers of errors are left out too.
        """
        self.reason = reason
        shown = _NOT_SHOWN.sub(lambda match: repr(match[0])[1:-1], _ERROR_NUMBER.sub("", message))
        if len(shown) > LONGEST_MESSAGE:
            shown = f"{shown[: LONGEST_MESSAGE - _SHOWN_END - 1]}…{shown[-_SHOWN_END:]}"
        self.message = shown
        super().__init__(self.message)


class InvalidInput(StepError):
    outcome = Outcome.INVALID_INPUT


class Failed(StepError):
    outcome = Outcome.FAILED


class Interrupted(BaseException):
    """Raised in the main thread by the signal handler."""
