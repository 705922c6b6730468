"""A machine may not be made for a test. Whether that is a skip or a failure is tests/skips.py's to say."""


class Unavailable(Exception):
    """This machine cannot run what was asked (no root, another system); the message says what to do.

    Something that should work here and does not, a failed build or download, is a RuntimeError: a failure everywhere.
    """
