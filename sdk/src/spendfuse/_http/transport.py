"""Records to a gateway: `POST /v1/events`, several in one request, each under its first id until it is taken."""

import http.client
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from spendfuse._client.fork import never_free, tell_of_forks
from spendfuse._http.gateway import Answer, Gateway, read_answer
from spendfuse._usage.transport import Done, Record, Undelivered

LINGER_S = 0.01
"""How long a record waits for others to go with it."""
MOST_RECORDS = 500
MOST_BYTES = 1024 * 1024
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
"""How a connection ends that nobody has used for a while."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    done: Done


class HttpTransport:
    """Sends to `POST /v1/events` of a gateway, which answers once Kafka has the records, or its own disk.

    What is refused for itself is refused for good; anything else is for the emitter to send again: an id counts once.
    """

    def __init__(self, url: str | None = None, *, key: str | None = None) -> None:
        """What is left out comes from SPENDFUSE_URL and SPENDFUSE_KEY. Raises ValueError when nobody says it."""
        self._gateway = Gateway(url, key)
        self._connection: http.client.HTTPConnection | None = None
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._most_bytes = MOST_BYTES
        """Of a request; fewer where somebody in between takes fewer."""
        self._since_s = 0.0
        tell_of_forks(self)

    def forked(self) -> None:
        """Leave to the parent its connection, and what waits to go there."""
        if self._connection is not None:
            never_free(self._connection)
        self._connection = None
        self._waiting, self._bytes = [], 0

    def send(self, record: Record, done: Done) -> None:
        """Have the record wait for its request. Raises BufferError when that is full: `poll` sends it."""
        if self._is_full:
            raise BufferError("a request is full")
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting.append(_Waiting(record, done))
        self._bytes += len(record.value) + 1

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002  # it waits for its answer in any case
        """Send what waits, if it is enough or has waited long enough."""
        if self._waiting and (self._is_full or time.monotonic() - self._since_s >= LINGER_S):
            self._send_all()

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_RECORDS or self._bytes >= self._most_bytes

    def _send_all(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        body = b"\n".join(each.record.value for each in waiting)
        try:
            answer = self._post(body)
        except Exception as error:  # whatever it was: these records are nowhere but here
            self._drop_connection()
            failed = Undelivered(self._gateway.unreachable(error), retriable=True)
            outcomes: Sequence[Undelivered | None] = [failed] * len(waiting)
        else:
            too_large = answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            outcomes = self._split(waiting, answer) if too_large else self._outcomes(answer, len(waiting))
        for each, outcome in zip(waiting, outcomes, strict=True):
            each.done(each.record, outcome)

    def _post(self, body: bytes) -> Answer:
        is_new = self._connection is None
        try:
            return self._ask(body)
        except _STALE:
            if is_new:
                raise
            self._drop_connection()
            return self._ask(body)

    def _ask(self, body: bytes) -> Answer:
        if self._connection is None:
            self._connection = self._gateway.connect()
        return read_answer(self._gateway.request(self._connection, "POST", "/v1/events", body))

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _split(self, waiting: Sequence[_Waiting], answer: Answer) -> Sequence[Undelivered]:
        """Have records go in smaller requests from now on: a proxy may take less than the gateway does."""
        largest = max(len(each.record.value) for each in waiting)
        self._most_bytes = max(sum(len(each.record.value) for each in waiting) // 2 - largest, 1)
        why = self._gateway.why(replace(answer, said={"error": "the request is too large"}))
        return [Undelivered(why, retriable=len(waiting) > 1, at_once=len(waiting) > 1)] * len(waiting)

    def _outcomes(self, answer: Answer, count: int) -> Sequence[Undelivered | None]:
        """What became of each record."""
        rejected = answer.said.get("rejected") if isinstance(answer.said, dict) else None
        if answer.status not in (200, 400) or not isinstance(rejected, list):
            return [Undelivered(self._gateway.why(answer), retriable=True, rest_s=answer.rest_s)] * count
        outcomes: list[Undelivered | None] = [None] * count
        try:
            for each in rejected:
                outcomes[each["index"]] = Undelivered(f"{each['reason']}: {each['detail']}", retriable=False)
        except (KeyError, IndexError, TypeError):  # somebody in between has made it up
            return [Undelivered(self._gateway.why(replace(answer, said=None)), retriable=True)] * count
        return outcomes
