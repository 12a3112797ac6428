"""A bounded buffer and the thread that empties it into a transport.

Record states: queued -> in flight -> delivered, or refused for good, or failed and to be sent again: first in the line,
at once or after a rest. All but the delivered and refused ones count against the bound, so a dead broker costs a fixed
amount of memory and never a wait.
"""

import heapq
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from spendfuse._client.logging import LOG, RareWarning
from spendfuse._usage.transport import Record, Transport, Undelivered

POLL_IN_FLIGHT_S = 0.02
POLL_IDLE_S = 1.0
REST_S = 1.0
"""Before a failed record is sent again; then all that have rested go as fast as the broker takes them."""
MOST_REST_S = 60.0
"""For how long nothing is sent at most, whoever asks for that."""
JOIN_S = 2.0


@dataclass(slots=True)
class EmitterStats:
    """Counts since the start. `dropped` records never left this process; `refused` ones the broker will not take."""

    accepted: int = 0
    sent: int = 0
    dropped: int = 0
    refused: int = 0
    resent: int = 0
    tags_dropped: int = 0


@dataclass(frozen=True, slots=True, order=True)
class _Item:
    """A record, by its place in the order in which they came."""

    number: int
    record: Record = field(compare=False)


class Outbox:
    """Takes records without waiting and sends them, each under its first event id until the broker has it."""

    def __init__(self, transport: Transport, *, max_records: int, max_bytes: int) -> None:
        self.stats = EmitterStats()
        self._transport = transport
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._queued: deque[_Item] = deque()
        self._again: list[_Item] = []
        """A heap: those whose turn it was already, and is again before all that are queued."""
        self._resting: deque[tuple[float, _Item]] = deque()
        self._quiet_until_s = 0.0
        """Before that nothing is sent, because the receiver has asked for it."""
        self._unsent = 0
        self._unsent_bytes = 0
        self._in_flight = 0
        self._refused = 0
        """Records that the broker will not take, since somebody was last told."""
        self._closing = False
        self._stopping = False
        self._changed = threading.Condition()
        self._full = RareWarning("%d usage events dropped, spend goes unrecorded: %s")
        self._trouble = RareWarning("%d usage events not delivered, will send again: %s")
        self._refusal = RareWarning("%d usage events refused by the broker, spend goes unrecorded: %s")
        self._thread: threading.Thread | None = None
        """None in a forked child that has nothing to send yet."""

    def begin(self) -> None:
        """Start to send, unless that is done already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="spendfuse-emitter", daemon=True)
            self._thread.start()

    def renewed(self) -> "Outbox":
        """Return an empty one in this one's place, for a forked child: what waits here is its parent's to send."""
        outbox = Outbox(self._transport, max_records=self._max_records, max_bytes=self._max_bytes)
        outbox._closing = self._closing
        return outbox

    def offer(self, record: Record) -> bool:
        """Queue the record, or count it as dropped and return False. Never waits for the network."""
        with self._changed:
            size = len(record.value)
            fits = self._unsent < self._max_records and self._unsent_bytes + size <= self._max_bytes
            if fits and not self._closing:
                self.stats.accepted += 1
                self._unsent += 1
                self._unsent_bytes += size
                self._queued.append(_Item(self.stats.accepted, record))
                self._changed.notify_all()
                self.begin()
                return True
            self.stats.dropped += 1
            why = "the emitter is closed" if self._closing else f"{self._unsent} wait for the broker already"
        self._full.happened(why)
        return False

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered or refused, at most `timeout_s`.

        Nothing rests any longer than until now, so that each is tried once more, whoever has asked to be sent nothing.
        Return how many records the broker does not have: unsent ones, and those it has refused since the last flush.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._end_rests()
            while self._unsent and (left_s := deadline_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            refused, self._refused = self._refused, 0
            return self._unsent + refused

    def close(self, timeout_s: float) -> int:
        """Take no more, flush, end the thread and the transport. Return what `flush` does, and log what is missing."""
        with self._changed:
            if self._closing:
                return self._unsent
            self._closing = True
        missing = self.flush(timeout_s)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        self._transport.close()
        self._log_account()
        return missing

    def _log_account(self) -> None:
        """Say how many events were lost in all, and to what; nothing if none were."""
        stats, unsent = self.stats, self._unsent
        lost = unsent + stats.refused + stats.dropped
        if lost:
            LOG.error(
                "%d of %d usage events are not in the log, and their spend is not counted; waiting for the broker when "
                "the emitter closed: %d, refused by it: %d, dropped for want of room: %d",
                *(lost, stats.accepted + stats.dropped, unsent, stats.refused, stats.dropped),
            )

    def _work(self) -> None:
        while not self._stopping:
            item = self._next()
            is_full = item is not None and not self._hand_over(item)
            try:
                self._transport.poll(POLL_IN_FLIGHT_S if is_full else 0)
            except Exception as error:  # this thread must outlive whatever a transport raises
                self._trouble.happened(f"{type(error).__name__}: {error}")

    def _hand_over(self, item: _Item) -> bool:
        """Give the record to the transport; return whether that has room for more."""
        try:
            self._transport.send(item.record, lambda _, failure: self._done(item, failure))
        except BufferError:
            with self._changed:
                self._in_flight -= 1
                heapq.heappush(self._again, item)
            return False
        except Exception as error:
            self._done(item, Undelivered(f"{type(error).__name__}: {error}", retriable=True))
        return True

    def _next(self) -> _Item | None:
        """The one to send now, marked in flight; None after a while without one."""
        with self._changed:
            self._wake_rested(time.monotonic())
            if not self._has_next and not self._stopping:
                self._changed.wait(POLL_IN_FLIGHT_S if self._in_flight or self._resting else POLL_IDLE_S)
            if not self._has_next:
                return None
            self._in_flight += 1
            return heapq.heappop(self._again) if self._again else self._queued.popleft()

    @property
    def _has_next(self) -> bool:
        return bool(self._again or self._queued) and time.monotonic() >= self._quiet_until_s

    def _end_rests(self) -> None:
        self._quiet_until_s = 0.0
        self._wake_rested(math.inf)
        self._changed.notify_all()

    def _wake_rested(self, until_s: float) -> None:
        while self._resting and self._resting[0][0] <= until_s:
            heapq.heappush(self._again, self._resting.popleft()[1])
            self.stats.resent += 1

    def _done(self, item: _Item, failure: Undelivered | None) -> None:
        with self._changed:
            self._in_flight -= 1
            if failure is not None and failure.at_once:
                heapq.heappush(self._again, item)
                self.stats.resent += 1
            elif failure is not None and failure.retriable:
                now_s = time.monotonic()
                self._resting.append((now_s + REST_S, item))
                if failure.rest_s and not self._closing:
                    self._quiet_until_s = now_s + min(failure.rest_s, MOST_REST_S)
            else:
                self._unsent -= 1
                self._unsent_bytes -= len(item.record.value)
                if failure is None:
                    self.stats.sent += 1
                else:
                    self.stats.refused += 1
                    self._refused += 1
            self._changed.notify_all()
        if failure is not None and not failure.at_once and not self._stopping:
            (self._trouble if failure.retriable else self._refusal).happened(failure.reason)
