"""What has arrived for a tenant: from which source with which key, which runs are blind, and what is told twice."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Final

from schemas.dead_letter import DeadLetter, Reason
from schemas.usage import CommandAck, LlmCall, ToolCall, UsageMessage
from streams.gateway.origin import DIRECT, Origin

TOGETHER_MS: Final = 5_000
"""Two calls of one model with equal tokens, within so much time and from two sources, are one call told twice."""


@dataclass(slots=True)
class Stream:
    """What came from one source with one key."""

    model_calls: int = 0
    tool_calls: int = 0
    others: int = 0
    again: int = 0
    """Messages whose event had come before: they count once."""
    runs: set[str] = field(default_factory=set)
    last_ms: int = 0
    last_run: str = ""

    def add(self, message: UsageMessage, append_ms: int) -> None:
        """Count a message."""
        match message:
            case LlmCall():
                self.model_calls += 1
            case ToolCall():
                self.tool_calls += 1
            case _:
                self.others += 1
        self.runs.add(message.run_id)
        self.came(message, append_ms)

    def came(self, message: UsageMessage, append_ms: int) -> None:
        """Remember the last one."""
        if append_ms >= self.last_ms:
            self.last_ms, self.last_run = append_ms, message.run_id


@dataclass(slots=True)
class Blindness:
    """How much of a workflow's tool calls from one source loops can be seen in."""

    tool_calls: int = 0
    without_arguments: int = 0
    without_result: int = 0
    blind_runs: set[str] = field(default_factory=set)

    def add(self, call: ToolCall) -> None:
        """Count a tool call."""
        self.tool_calls += 1
        self.without_arguments += call.args_hash is None
        self.without_result += call.result_hash is None
        if call.args_hash is None:
            self.blind_runs.add(call.run_id)


@dataclass(slots=True)
class Rejections:
    """Dead letters of one origin and reason."""

    count: int = 0
    newest: DeadLetter | None = None

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.count += 1
        if self.newest is None or letter.ts_ms >= self.newest.ts_ms:
            self.newest = letter


class Arrivals:
    """The messages of a tenant, in the order in which they were appended."""

    def __init__(self) -> None:
        self.streams: defaultdict[Origin, Stream] = defaultdict(Stream)
        self.blindness: defaultdict[tuple[Origin, str], Blindness] = defaultdict(Blindness)
        """Origin and workflow -> what loops can be seen of it."""
        self.rejections: defaultdict[tuple[Origin, Reason], Rejections] = defaultdict(Rejections)
        self.told_twice: Counter[tuple[Origin, Origin]] = Counter()
        """Two origins -> how many calls both tell."""
        self._seen: set[str] = set()
        self._recent: defaultdict[tuple[str, int, int], deque[tuple[int, Origin]]] = defaultdict(deque)
        """Model and tokens -> when it was called, and who tells so, within the time that makes two one."""

    def add(self, message: UsageMessage, origin: Origin, append_ms: int) -> None:
        """Take note of a message."""
        if origin == DIRECT and isinstance(message, CommandAck):
            return  # a gateway answers commands by itself for whoever asks it: nobody reports past it
        stream = self.streams[origin]
        if message.event_id in self._seen:
            stream.again += 1
            stream.came(message, append_ms)
            return
        self._seen.add(message.event_id)
        stream.add(message, append_ms)
        if isinstance(message, ToolCall):
            self.blindness[origin, message.workflow or ""].add(message)
        if isinstance(message, LlmCall) and message.input_tokens + message.output_tokens:
            self._compare(message, origin)

    def add_rejected(self, letter: DeadLetter, origin: Origin) -> None:
        """Take note of what was refused."""
        self.rejections[origin, letter.reason].add(letter)

    def _compare(self, call: LlmCall, origin: Origin) -> None:
        """Match a call with one that another source tells; each is matched once."""
        recent = self._recent[_plain(call.model), call.input_tokens, call.output_tokens]
        while recent and recent[0][0] < call.ts_ms - TOGETHER_MS:
            recent.popleft()
        for place, (ts_ms, other) in enumerate(recent):
            if other != origin and abs(ts_ms - call.ts_ms) <= TOGETHER_MS:
                first, second = sorted((origin, other))
                self.told_twice[first, second] += 1
                del recent[place]
                return
        recent.append((call.ts_ms, origin))


def _plain(model: str) -> str:
    """A model's name without the gateways before it."""
    return model.rpartition("/")[2].lower()
