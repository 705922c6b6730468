"""Words what the operating system refuses, as a person can act on it: no numbers of errors, no doubled paths."""

import errno
import os

from ftm_jobs.errors import Failed, InvalidInput, Reason

_WRONG_INPUT = {
    errno.EACCES: (Reason.ACCESS_DENIED, "may not be read or written by this user: change its mode or owner, or"),
    errno.EPERM: (Reason.ACCESS_DENIED, "may not be read or written by this user: change its mode or owner, or"),
    errno.EROFS: (Reason.ACCESS_DENIED, "is on a file system that can only be read:"),
    errno.ENOTDIR: (Reason.INVALID_URI, "is a file, or leads through one, where a folder must be:"),
    errno.EEXIST: (Reason.INVALID_URI, "is a file, or leads through one, where a folder must be:"),
    errno.EISDIR: (Reason.INVALID_URI, "is a folder where a file must be: remove it, or"),
    errno.ENAMETOOLONG: (Reason.INVALID_URI, "has a longer name than the file system takes:"),
    errno.ELOOP: (Reason.INVALID_URI, "leads through symbolic links in a circle: mend them, or"),
    errno.EINVAL: (Reason.INVALID_URI, "has a name that the file system does not take:"),
    errno.ENOENT: (Reason.SOURCE_CHANGED, "is not there, or no longer: run this again, or"),
}
"""Retrying these is useless."""
_MAY_PASS = {
    errno.ENOSPC: (Reason.DISK_FULL, "no space left on the disk; free some or"),
    errno.EDQUOT: (Reason.DISK_FULL, "the quota of this user is used up; free some or"),
    errno.EFBIG: (Reason.DISK_FULL, "a file is larger than the file system or `ulimit -f` allows; raise it or"),
    errno.EIO: (Reason.STORE_UNAVAILABLE, "the disk answers with an input/output error; look at the kernel's log, or"),
    errno.ESTALE: (Reason.STORE_UNAVAILABLE, "the network file system lost the file; run this again, or"),
    errno.ETIMEDOUT: (Reason.STORE_UNAVAILABLE, "the file system did not answer in time; run this again, or"),
    errno.EMFILE: (Reason.STORE_UNAVAILABLE, "too many files are open; raise `ulimit -n`, or"),
    errno.ENFILE: (Reason.STORE_UNAVAILABLE, "too many files are open on this machine; end other programs, or"),
}


def explain(error: OSError, label: str, remedy: str = "choose another folder") -> InvalidInput | Failed:
    """Returns the step's error; `label` is how messages name the file or folder, `remedy` how to use another."""
    number = error.errno or 0
    if number in _WRONG_INPUT:
        reason, text = _WRONG_INPUT[number]
        return InvalidInput(reason, f"{label} {text} {remedy}")
    if number in _MAY_PASS:
        reason, text = _MAY_PASS[number]
        return Failed(reason, f"{label}: {text} {remedy}")
    return Failed(Reason.STORE_UNAVAILABLE, f"{label}: {words(error)}; run this again, or {remedy}")


def words(error: OSError) -> str:
    """Returns what happened, without the error's number and path."""
    if error.errno:
        text = error.strerror or os.strerror(error.errno)
        return text[:1].lower() + text[1:]
    return " ".join(str(error).split()) or type(error).__name__
