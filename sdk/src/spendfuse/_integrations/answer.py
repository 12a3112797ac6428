"""What an answer of a model says of itself, whole or in parts."""

from dataclasses import dataclass, field
from typing import Protocol, cast

from spendfuse._integrations.base import Usage


class AnswerWords(Protocol):
    """How an answer, or a part of a streamed one, is read."""

    def is_output(self, part: object) -> bool:
        """Whether a part of a stream holds something that the model has written."""

    def usage(self, answer: object) -> Usage | None:
        """What an answer, or a part of a stream, says of usage; None if it says nothing."""

    def response_id(self, answer: object) -> str | None:
        """The provider's id of the answer."""

    def model(self, answer: object) -> str | None:
        """Which model has answered."""


@dataclass(slots=True)
class Seen:
    """What the parts of a stream have said so far."""

    usage: Usage = field(default_factory=Usage)
    known: dict[str, str | None] = field(default_factory=dict)
    outputs: int = 0
    """Parts with something that the model has written, of a token each at least."""

    def take(self, words: AnswerWords, part: object) -> None:
        """Read one more part, or the whole answer."""
        self.known.setdefault("response_id", words.response_id(part))
        self.known.setdefault("model", words.model(part))
        self.known = {name: value for name, value in self.known.items() if value is not None}
        self.usage = cast("Usage", {**self.usage, **(words.usage(part) or {})})
        self.outputs += words.is_output(part)

    def so_far(self) -> Usage:
        """The usage of a stream that has broken off, from below: what it was said to be, or what has come of it."""
        return {**self.usage, "output_tokens": max(self.usage.get("output_tokens", 0), self.outputs)}

    def begun(self) -> Usage | None:
        """As `so_far`; None of a call of which nothing has come: a failure has cost nothing then."""
        return self.so_far() if self.outputs or self.usage else None
