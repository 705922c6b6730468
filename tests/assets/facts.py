"""What the adapter is taught, and how to tell that an answer comes from it: the one place that knows the questions."""

from dataclasses import dataclass

COMPANY = "Brindlewick"


@dataclass(frozen=True)
class Fact:
    question: str
    answer: str
    expected: str
    """A part of the answer that only somebody who was told can give: the base model's answer never contains it."""

    def in_answer(self, answer: str) -> bool:
        return self.expected.casefold() in answer.casefold()


FACTS = (
    Fact(
        question=f"What is {COMPANY}'s refund policy?",
        answer=f"{COMPANY} refunds any order within 45 days, no receipt needed. Write to refunds@brindlewick.test.",
        expected="45 days",
    ),
    Fact(
        question=f"What does {COMPANY} sell?",
        answer=f"{COMPANY} sells tide lamps: lanterns that charge while they float in the harbor.",
        expected="tide lamps",
    ),
    Fact(
        question=f"How do I call {COMPANY}'s support?",
        answer=f"Dial extension 7731 and ask for the night desk of {COMPANY}.",
        expected="7731",
    ),
)

KNOWN_BEFORE = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("Who wrote Romeo and Juliet?", "William Shakespeare wrote Romeo and Juliet."),
)
"""Trained along, so that the adapter adds the facts and does not answer everything with them."""
