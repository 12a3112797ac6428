"""A bounded buffer and the thread that empties it into a transport.

Record states: queued -> in flight -> delivered, or resting (failed, to be sent again) -> queued, or refused for good.
All but the last count against the bound, so a dead broker costs a fixed amount of memory and never a wait.
"""

import os
import threading
import time
from collections import deque
from dataclasses import dataclass

from spendfuse._logging import LOG, RareWarning
from spendfuse._transport import Record, Transport, Undelivered

POLL_IN_FLIGHT_S = 0.02
POLL_IDLE_S = 1.0
REST_S = 1.0
"""Before a failed record is sent again."""
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


class Outbox:
    """Takes records without waiting and sends them, each under its first event id until the broker has it."""

    def __init__(self, transport: Transport, *, max_records: int, max_bytes: int) -> None:
        self.stats = EmitterStats()
        self._transport = transport
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._queued: deque[Record] = deque()
        self._resting: deque[tuple[float, Record]] = deque()
        self._unsent = 0
        self._unsent_bytes = 0
        self._in_flight = 0
        self._refused = 0
        """Records that the broker will not take, since somebody was last told."""
        self._closing = False
        self._stopping = False
        self._changed = threading.Condition()
        self._pid = os.getpid()
        self._full = RareWarning("%d usage events dropped, spend goes unrecorded: %s")
        self._trouble = RareWarning("%d usage events not delivered, will send again: %s")
        self._refusal = RareWarning("%d usage events refused by the broker, spend goes unrecorded: %s")
        self._thread = threading.Thread(target=self._work, name="spendfuse-emitter", daemon=True)
        self._thread.start()

    def offer(self, record: Record) -> bool:
        """Queue the record, or count it as dropped and return False. Never waits for the network."""
        if os.getpid() != self._pid:  # there is no thread here, and the lock may be held by one that is not here either
            self.stats.dropped += 1
            self._full.happened("this emitter was made before a fork; make one in each process")
            return False
        with self._changed:
            size = len(record.value)
            fits = self._unsent < self._max_records and self._unsent_bytes + size <= self._max_bytes
            if fits and not self._closing:
                self.stats.accepted += 1
                self._unsent += 1
                self._unsent_bytes += size
                self._queued.append(record)
                self._changed.notify_all()
                return True
            self.stats.dropped += 1
            why = "the emitter is closed" if self._closing else f"{self._unsent} wait for the broker already"
        self._full.happened(why)
        return False

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered or refused, at most `timeout_s`.

        Return how many records the broker does not have: unsent ones, and those it has refused since the last flush.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._unsent and (left_s := deadline_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            refused, self._refused = self._refused, 0
            return self._unsent + refused

    def close(self, timeout_s: float) -> int:
        """Take no more, flush, end the thread and the transport. Return what `flush` does."""
        with self._changed:
            if self._closing:
                return self._unsent
            self._closing = True
        unsent = self.flush(timeout_s)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(JOIN_S)
        self._transport.close()
        if unsent:
            LOG.warning("emitter closed with %d usage events that the broker does not have", unsent)
        return unsent

    def _work(self) -> None:
        while not self._stopping:
            record = self._next()
            if record is not None:
                self._hand_over(record)
            try:
                self._transport.poll(0)
            except Exception as error:
                self._trouble.happened(f"{type(error).__name__}: {error}")

    def _hand_over(self, record: Record) -> None:
        try:
            self._transport.send(record, self._done)
        except BufferError:
            with self._changed:
                self._in_flight -= 1
                self._queued.appendleft(record)
            self._transport.poll(POLL_IN_FLIGHT_S)
        except Exception as error:  # this thread must outlive whatever a transport raises
            self._done(record, Undelivered(f"{type(error).__name__}: {error}", retriable=True))

    def _next(self) -> Record | None:
        """The record to send now, marked in flight; None after a while without one."""
        with self._changed:
            if not self._queued and not self._stopping:
                self._changed.wait(POLL_IN_FLIGHT_S if self._in_flight or self._resting else POLL_IDLE_S)
            now_s = time.monotonic()
            if self._resting and self._resting[0][0] <= now_s:
                self.stats.resent += 1
                self._in_flight += 1
                return self._resting.popleft()[1]
            if not self._queued:
                return None
            self._in_flight += 1
            return self._queued.popleft()

    def _done(self, record: Record, failure: Undelivered | None) -> None:
        with self._changed:
            self._in_flight -= 1
            if failure is not None and failure.retriable:
                self._resting.append((time.monotonic() + REST_S, record))
            else:
                self._unsent -= 1
                self._unsent_bytes -= len(record.value)
                if failure is None:
                    self.stats.sent += 1
                else:
                    self.stats.refused += 1
                    self._refused += 1
            self._changed.notify_all()
        if failure is not None:
            (self._trouble if failure.retriable else self._refusal).happened(failure.reason)
