"""Names something that two models should share and do not, with both sides as a sentence shows them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: {self.wanted} became {self.found}"
