"""Holds a conversation with a served model, and asks several models at the same time."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from ftm_operator.local.engine_client import EngineClient, Message, NoAnswer


@dataclass
class Conversation:
    """A model, and what was said so far; answers that were stopped count as far as they came."""

    title: str
    """The model's name for the person who asks."""
    client: EngineClient
    system: str | None = None
    most_tokens: int = 1024
    temperature: float = 0.0
    history: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> Iterator[str]:
        """Yields the answer piece by piece. Raises NoAnswer."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*before, *self.history, {"role": "user", "content": question}]
        yield from self.client.stream(messages, self.most_tokens, self.temperature)

    def note(self, question: str, answer: str) -> None:
        """Adds a question and its answer, if there is any, to what was said."""
        if answer:
            self.history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forgets all but the system prompt."""
        self.history.clear()


@dataclass
class StreamedAnswer:
    """One model's answer as far as it has come."""

    title: str
    text: str = ""
    error: NoAnswer | None = None


def ask_all(conversations: Sequence[Conversation], question: str) -> Generator[list[StreamedAnswer], None, None]:
    """Yields all models' answers, in their order, each time that one has grown; they are asked at the same time.

    Where the caller stops early, what has come is noted and the models stop with their next piece.
    """
    answers = [StreamedAnswer(each.title) for each in conversations]
    pieces: queue.SimpleQueue[tuple[int, str | NoAnswer | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def ask(place: int) -> None:
        try:
            for piece in conversations[place].ask(question):
                if stopped.is_set():
                    return
                pieces.put((place, piece))
        except NoAnswer as error:
            pieces.put((place, error))
        pieces.put((place, None))

    for place in range(len(conversations)):
        threading.Thread(target=ask, args=(place,), daemon=True).start()
    left = len(conversations)
    try:
        while left:
            place, piece = pieces.get()
            match piece:
                case None:
                    left -= 1
                case NoAnswer():
                    answers[place].error = piece
                case text:
                    answers[place].text += text
            yield answers
    finally:
        stopped.set()
        for conversation, answer in zip(conversations, answers, strict=True):
            conversation.note(question, answer.text)
