"""Cuts texts that others wrote to what a status and an Event take. Pure."""

MOST_CHARACTERS = 4096
"""The length of a condition's message; an API server takes 32768, and a status has up to ten conditions."""
_GAP = " … "


def one_line(text: object, most: int = MOST_CHARACTERS) -> str:
    """Returns a text on one line, without its middle where it is longer: the cause is mostly named at its end."""
    line = " ".join(str(text or "").split())
    if len(line) <= most:
        return line
    tail = most // 3
    return line[: most - tail - len(_GAP)].rstrip() + _GAP + line[-tail:].lstrip()


def in_bytes(text: str, most: int) -> str:
    """Returns a text of at most so many bytes of UTF-8, cut between two characters."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= most else encoded[: most - 3].decode(errors="ignore") + "…"
