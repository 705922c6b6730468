"""What a machine is not made for. Whether that is a skip or a failure is tests/conftest.py's to say."""


class Unavailable(Exception):
    """This machine cannot run what was asked (no root, another system); the message says what to do.

    Something that should work here and does not, a failed build or download, is a RuntimeError: a failure everywhere.
    """
