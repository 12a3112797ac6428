"""The agent's side of `usage.v1`: it says what happened and goes on."""

import atexit
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self, Unpack

from spendfuse._client.clock import dependable
from spendfuse._client.errors import InvalidEvent
from spendfuse._client.fork import at_end_of_children, tell_of_forks
from spendfuse._client.logging import RareWarning
from spendfuse._client.run import Run, RunObserver, RunOptions
from spendfuse._usage.hashing import hash_of
from spendfuse._usage.money import MAX_CAP_NANOUSD, MAX_EVENT_NANOUSD, Usd, nanousd
from spendfuse._usage.outbox import EmitterStats, Outbox
from spendfuse._usage.shape import shape_of, versioned
from spendfuse._usage.transport import Record, Transport
from spendfuse._usage.wire import Event, checked, encoded

EXIT_FLUSH_S = 2.0

_USD_FIELDS = {
    "cost_usd": ("cost_nanousd", MAX_EVENT_NANOUSD),
    "cap_usd": ("cap_nanousd", MAX_CAP_NANOUSD),
}
"""What the caller may give in dollars -> the field on the wire and its bound."""


class Emitter:
    """Sends usage events to a transport from a thread of its own.

    No method waits for the broker, except `flush` and `close`, and none raises because of it. When `max_buffered`
    records or `max_buffered_bytes` bytes wait for the broker, newer events are dropped, counted in `stats.dropped`
    and warned about once a minute. Every event keeps the id it got here through all re-sends.

    A forked child may go on with its parent's emitter: it has a buffer and a connection of its own, from its first
    event on, and what waited at the fork is the parent's to send. A program and a child of multiprocessing that end
    without `close` flush for up to two seconds. A child that ends by `os._exit`, as Celery's do, must `flush` or
    `close` before.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        max_buffered: int = 10_000,
        max_buffered_bytes: int = 32 * 1024 * 1024,
        hash_key: bytes | None = None,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """`hash_key` keys the hashes of prompts, arguments and results; without it, short ones can be guessed."""
        self._outbox = Outbox(transport, max_records=max_buffered, max_bytes=max_buffered_bytes)
        self._hash_key = hash_key
        self._clock_ms = dependable(clock_ms)
        self._observers: list[RunObserver] = []
        self._tags_warning = RareWarning("%d usage events sent without their tags, to fit the size limit%s")
        self._outbox.begin()
        atexit.register(self.close, EXIT_FLUSH_S)
        at_end_of_children(self, _flush_at_exit)
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in a child."""
        self._outbox = self._outbox.renewed()

    @property
    def stats(self) -> EmitterStats:
        """Counts since the start."""
        return self._outbox.stats

    @property
    def observers(self) -> tuple[RunObserver, ...]:
        """Who hears of this emitter's runs."""
        return tuple(self._observers)

    def observe(self, observer: RunObserver) -> None:
        """Tell `observer` of every run made from now on."""
        self._observers.append(observer)

    def unobserve(self, observer: RunObserver) -> None:
        """Tell `observer` of no further run."""
        with suppress(ValueError):
            self._observers.remove(observer)

    def run(self, tenant_id: str, *, parent: Run | None = None, **options: Unpack[RunOptions]) -> Run:
        """Return a run, to be entered with `with`. Raises InvalidEvent for a name or cap the contract refuses."""
        return Run(self, tenant_id, parent, options)

    def emit(self, event: Mapping[str, object]) -> str | None:
        """Send one event given by the contract's field names; return its id, or None when it was dropped.

        `event_id` and `ts_ms` are filled in where missing, and `cost_usd` or `cap_usd` turned into nano-dollars.
        Raises InvalidEvent for an event the log would refuse.
        """
        return self.send(self.prepared(event))

    def prepared(self, event: Mapping[str, object]) -> Event:
        """Return the event complete and checked, without sending it. Raises InvalidEvent."""
        draft: Event = {"event_id": uuid.uuid4().hex, "ts_ms": self._clock_ms()}
        draft.update((name, value) for name, value in event.items() if value is not None)
        for usd_name, (name, limit_nanousd) in _USD_FIELDS.items():
            if usd_name not in draft:
                continue
            if name in draft:
                raise InvalidEvent(f"give {usd_name} or {name}, not both")
            amount_usd: Usd = draft.pop(usd_name)  # type: ignore[assignment]  # nanousd checks it
            draft[name] = nanousd(amount_usd, field=usd_name, limit_nanousd=limit_nanousd)
        return checked(draft)

    def send(self, event: Event) -> str | None:
        """Queue a prepared event; return its id, or None when it was dropped."""
        value, lost_tags = encoded(event)
        if lost_tags:
            self.stats.tags_dropped += 1
            self._tags_warning.happened()
        event_id, tenant_id, ts_ms = event["event_id"], event["tenant_id"], event["ts_ms"]
        assert isinstance(event_id, str)
        assert isinstance(tenant_id, str)
        assert isinstance(ts_ms, int)
        return event_id if self._outbox.offer(Record(event_id, tenant_id.encode(), value, ts_ms)) else None

    def hash_of(self, value: object) -> str:
        """Return `hash_of` under this emitter's key."""
        return hash_of(value, key=self._hash_key)

    def shape_hash_of(self, value: object) -> str | None:
        """Return the hash of a result's shape under this emitter's key; None if it has no shape to compare by."""
        shape = shape_of(value)
        return None if shape is None else versioned(self.hash_of(shape))

    def flush(self, timeout_s: float = 5.0) -> int:
        """Wait for the broker, at most `timeout_s` seconds; return how many events it does not have.

        Those are the ones still waiting, and the ones it has refused since the last flush, which it will never have.
        """
        return self._outbox.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> int:
        """Flush and end; return what `flush` does. Later events are dropped and counted."""
        atexit.unregister(self.close)
        return self._outbox.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _flush_at_exit(emitter: Emitter) -> None:
    emitter.close(EXIT_FLUSH_S)
