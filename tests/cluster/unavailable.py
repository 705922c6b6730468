"""Why a cluster cannot be had on this machine. Whether that is a skip or a failure is tests/conftest.py's to say."""


class Unavailable(Exception):
    """A machine lacks what a cluster needs; the message says what, why and what to do."""
