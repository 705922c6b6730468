"""Reads a Containerfile: its stages, those that a target is made from, and the files of the context that they copy."""

import re
from dataclasses import dataclass
from pathlib import Path

FROM = re.compile(r"FROM (?P<base>\S+)(?: AS (?P<name>\S+))?$")


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    """Another stage, or an image."""
    instructions: tuple[str, ...]
    """The lines after FROM, with continued ones joined."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Files and folders of the context that the stage copies."""
        copies = [line.split()[1:-1] for line in self.instructions if line.startswith(("ADD ", "COPY "))]
        own = [words for words in copies if not words[0].startswith("--from=")]
        return tuple(word for words in own for word in words if not word.startswith("--"))

    @property
    def used(self) -> tuple[str, ...]:
        """Stages and images that the stage begins from or copies from."""
        return self.base, *re.findall(r"^COPY --from=(\S+)", "\n".join(self.instructions), re.MULTILINE)


def stages(containerfile: Path) -> list[Stage]:
    """Returns the stages in their order; one without a name is called by its number."""
    read: list[Stage] = []
    lines = containerfile.read_text().replace("\\\n", "").splitlines()
    for line in [line.strip() for line in lines if line.strip() and not line.startswith("#")]:
        if begun := FROM.match(line):
            read.append(Stage(begun["name"] or str(len(read)), begun["base"], ()))
        elif read:
            last = read.pop()
            read.append(Stage(last.name, last.base, (*last.instructions, line)))
    return read


def stages_of(containerfile: Path, target: str | None) -> list[Stage]:
    """Returns the stages that a target, the last stage unless given, is made from, itself included, in their order."""
    every = stages(containerfile)
    wanted, needed = [target or every[-1].name], set[str]()
    while wanted:
        name = wanted.pop()
        needed.add(name)
        wanted += [used for stage in every if stage.name == name for used in stage.used if used not in needed]
    return [stage for stage in every if stage.name in needed]
