"""Names something that two models should share and do not, with both sides as a sentence shows them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    label: str
    wanted: str
    given: str

    def __str__(self) -> str:
        return f"{self.label}: {self.wanted} became {self.given}"
