"""May a message go to this receiver now? Pace, its own Retry-After, and a circuit breaker."""

from collections import deque
from collections.abc import Iterator

from alerting.effects import Failed
from alerting.receivers.registry import KINDS
from schemas.duration import MINUTE_MS
from schemas.routing import Receiver

BREAKS_AFTER = 5
"""Failures in a row that open the circuit."""
FIRST_BREAK_MS = 60_000
MOST_BREAK_MS = 600_000
UNREACHABLE_MS = 300_000
"""For how long nothing may arrive before somebody is told."""
HELD_MS = 1_000
"""How often to look whether a gate is still held."""
SET_BACK_MS = 10_000
"""A time that is so much earlier than one seen before is that of a clock that was set back: answers come with times of
their own, a little apart.
"""
OWN_FAULTS = frozenset({"bad_request", "too_long"})
"""What the message did wrong, not the receiver."""
SET_UP_WRONG = frozenset({"bad_credentials", "no_such_place"})
"""What no other message would do better: the circuit opens at once."""


class Gate:
    """The limits of one receiver. An open circuit lets a single message through now and then, to see."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._free_ms = 0
        self._started_ms: deque[int] = deque()
        """When the last messages began, of a receiver that takes so many a minute."""
        self._broken_until_ms = 0
        self._failures = 0
        self._break_ms = FIRST_BREAK_MS
        self.failing_since_ms = 0
        """When the first of the failures in a row was; of no meaning after a success."""
        self.why = ""
        """Why the last message did not arrive, in words."""
        self.is_well = False
        """Whether the last message arrived; not before the first."""
        self.held = False
        """Nothing new may go: this process is about to hand over."""
        self._latest_ms = 0
        """The latest time it was told."""

    def opens_ms(self, now_ms: int) -> int:
        """When the next message may go; `now_ms` if one may go now."""
        self._see(now_ms)
        held_until_ms = now_ms + HELD_MS if self.held else 0
        return max(now_ms, self._free_ms, self._broken_until_ms, held_until_ms)

    @property
    def takes_one_at_a_time(self) -> bool:
        """Whether a message is about one incident, and the next has to wait."""
        return not self.receiver.joins_incidents and KINDS[self.receiver.type].limits.pace_ms > 0

    @property
    def is_broken(self) -> bool:
        """Whether the circuit is open. Closed by the next success."""
        return self._failures >= BREAKS_AFTER

    def is_unreachable(self, now_ms: int) -> bool:
        """Whether nothing has arrived for so long that somebody should know."""
        self._see(now_ms)
        return self.is_broken and now_ms - self.failing_since_ms >= UNREACHABLE_MS

    def started(self, now_ms: int) -> None:
        """A message is on its way."""
        self._see(now_ms)
        limits = KINDS[self.receiver.type].limits
        self._free_ms = max(self._free_ms, now_ms + limits.pace_ms)
        if limits.most_a_minute is not None:
            self._started_ms.append(now_ms)
            if len(self._started_ms) >= limits.most_a_minute:
                self._free_ms = max(self._free_ms, self._started_ms.popleft() + MINUTE_MS)
        if self.is_broken:
            self._broken_until_ms = now_ms + self._break_ms

    def succeeded(self) -> None:
        """A message has arrived."""
        self.is_well = True
        self._failures = 0
        self._broken_until_ms = 0
        self._break_ms = FIRST_BREAK_MS

    def failed(self, outcome: Failed) -> None:
        """A message has not arrived, or nobody knows."""
        at_ms = outcome.at_ms
        self._see(at_ms)
        if outcome.retry_after_ms is not None:
            self._free_ms = max(self._free_ms, at_ms + outcome.retry_after_ms)
        if outcome.reason in OWN_FAULTS:
            return
        if self._failures == 0:
            self.failing_since_ms = at_ms
        self.why = outcome.detail or outcome.reason
        self.is_well = False
        was_broken = self.is_broken
        self._failures = max(self._failures + 1, BREAKS_AFTER if outcome.reason in SET_UP_WRONG else 0)
        if self.is_broken:
            self._break_ms = min(self._break_ms * 2, MOST_BREAK_MS) if was_broken else FIRST_BREAK_MS
            self._broken_until_ms = at_ms + self._break_ms

    def _see(self, now_ms: int) -> None:
        """Take note of the time. After a clock that was set back all waits are as long as they were before."""
        by_ms = self._latest_ms - now_ms
        if by_ms < SET_BACK_MS:
            self._latest_ms = max(self._latest_ms, now_ms)
            return
        self._latest_ms = now_ms
        self._free_ms -= by_ms
        self._started_ms.clear()
        self._broken_until_ms -= by_ms
        self.failing_since_ms -= by_ms


class Throttle:
    """The limits of all receivers. Pipelines of one process share them, because the receivers' own are."""

    def __init__(self, receivers: dict[str, Receiver]) -> None:
        self._gates = {name: Gate(receiver) for name, receiver in receivers.items()}

    def hold(self, *, held: bool) -> None:
        """Send nothing new, or go on."""
        for gate in self._gates.values():
            gate.held = held

    def __getitem__(self, receiver: str) -> Gate:
        return self._gates[receiver]

    def __contains__(self, receiver: object) -> bool:
        return receiver in self._gates

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)
