"""Checks names of files in a store, which come from strangers: no name leaves the store's folder."""


def is_plain_name(name: str) -> bool:
    """Says whether `name` is a file of the folder itself on every system: no path, no parent, no hidden file."""
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= 255
        and not name.startswith(".")
        and not any(
            character in "/\\:" or ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in name
        )
    )


def is_plain_path(path: str) -> bool:
    """Says whether `path` is a file of the folder, or of folders in it, every part of which has a plain name."""
    return all(map(is_plain_name, path.split("/")))
