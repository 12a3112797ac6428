"""Commands from a gateway: `GET /v1/control`, server-sent events, read by a thread and taken up again where it ended.

Freshness is evidence, as by Kafka. The gateway says with each beat what its clock is and how old its knowledge; it
has read its clock after this process began to connect, so that what it tells is never taken for newer than it is,
however long that was on its way.
"""

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spendfuse._client.fork import never_free, tell_of_forks
from spendfuse._client.logging import RareWarning
from spendfuse._control.command import ControlRecord
from spendfuse._http.gateway import Gateway, GatewayError, read_answer

SILENCE_S = 5.0
"""Without a beat for so long the gateway is taken for gone."""
AGAIN_S = 0.2
MOST_AGAIN_S = 3.0
"""Between two attempts to connect: doubled from one to the other."""
MOST_REST_S = 10.0
"""For how long nobody asks at most, whoever wants to be left alone: a kill may wait there."""
MOST_WAITING = 10_000
MAX_LINE_BYTES = 1024 * 1024
JOIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What the gateway knew then has been heard. `at_s` is None while it does not know."""

    at_s: float | None


class HttpControl:
    """Follows `GET /v1/control` of a gateway, which has verified each command: no keys are needed."""

    is_verified = True

    def __init__(self, url: str | None = None, *, key: str | None = None, tenant_id: str | None = None) -> None:
        """What is left out comes from SPENDFUSE_URL and SPENDFUSE_KEY. Raises ValueError when nobody says it.

        A key tells of the commands of its tenant: with `tenant_id` nothing is known while it is another one's.
        """
        self._gateway = Gateway(url, key)
        self._tenant_id = tenant_id
        self._trouble = RareWarning("%d failures to follow the gateway's commands: %s")
        self._fresh_at_s: float | None = None
        self._reading: _Reading | None = self._read()
        """None in a forked child that has not read yet."""
        tell_of_forks(self)

    def _read(self) -> "_Reading":
        return _Reading(self._gateway, self._tenant_id, self._trouble)

    def forked(self) -> None:
        """Leave to the parent what it reads with; a child begins anew."""
        if self._reading is not None:
            never_free(self._reading)
            self._reading = None
        self._fresh_at_s = None

    def poll(self, timeout_s: float) -> list[ControlRecord]:
        """Return the next records, waiting at most `timeout_s` for the first."""
        if self._reading is None:
            self._reading = self._read()
        records: list[ControlRecord] = []
        for heard in self._reading.take(timeout_s):
            if isinstance(heard, _Fresh):
                self._fresh_at_s = heard.at_s
            else:
                records.append(heard)
        return records

    def fresh_at_s(self) -> float | None:
        """The monotonic time up to which everything that was commanded is known to have been returned."""
        return self._fresh_at_s

    def waiting_for(self) -> str | None:
        """What keeps it from knowing what stands; None if nothing does."""
        return "the gateway, not asked yet" if self._reading is None else self._reading.failure

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.close()


class _Reading:
    """The stream, read by a thread of this process."""

    def __init__(self, gateway: Gateway, tenant_id: str | None, trouble: RareWarning) -> None:
        self.failure: str | None = f"an answer of {gateway.url}"
        self._gateway = gateway
        self._tenant_id = tenant_id
        self._trouble = trouble
        self._heard: deque[ControlRecord | _Fresh] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._last_id = ""
        self._begun_s = time.monotonic()
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._work, name="spendfuse-control", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> list[ControlRecord | _Fresh]:
        """What was heard since the last time, waiting at most so long for the first."""
        with self._changed:
            if not self._heard:
                self._changed.wait(timeout_s)
            heard = list(self._heard)
            self._heard.clear()
            self._changed.notify_all()
        return heard

    def close(self) -> None:
        """End; a read that goes on is left behind, in its daemon thread."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(JOIN_S)

    def _work(self) -> None:
        again_s = AGAIN_S
        while not self._closing.is_set():
            begun_s, rest_s = time.monotonic(), 0.0
            try:
                self._follow(begun_s)
                failure = f"{self._gateway.url} has ended the stream"
            except GatewayError as error:
                failure, rest_s = str(error), min(error.rest_s, MOST_REST_S)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                failure = self._gateway.unreachable(error)
            if self._closing.is_set():
                return
            self.failure = failure
            if time.monotonic() - begun_s > SILENCE_S:  # it was there: streams end now and then
                again_s = AGAIN_S
            else:
                again_s = min(2 * again_s, MOST_AGAIN_S)
                self._trouble.happened(failure)
            self._closing.wait(max(again_s, rest_s))

    def _follow(self, begun_s: float) -> None:
        """Read one connection to its end."""
        connection = self._gateway.connect(SILENCE_S)
        try:
            given = {"Accept": "text/event-stream", **({"Last-Event-ID": self._last_id} if self._last_id else {})}
            response = self._gateway.request(connection, "GET", "/v1/control", headers=given)
            if response.status != 200:
                answer = read_answer(response)
                raise GatewayError(self._gateway.why(answer), answer.status, answer.rest_s)
            self._hear(response, begun_s)
        finally:
            connection.close()

    def _hear(self, response: http.client.HTTPResponse, begun_s: float) -> None:
        ahead_s: float | None = None
        for name, event_id, data in _events(response):
            if self._closing.is_set():
                return
            if name == "command":
                self._put(_record(data))
                self._last_id = event_id or self._last_id
            elif name in ("hello", "fresh"):
                ahead_s = data["at_s"] - begun_s if ahead_s is None else ahead_s
                if name == "hello":
                    self._meet(data["tenant_id"])
                else:
                    self._note(data["blind"], None if data["blind"] else data["at_s"] - ahead_s - data["age_s"])

    def _meet(self, tenant_id: str) -> None:
        """Commands are those of the key's tenant: to another one's runs nothing would ever be said."""
        if self._tenant_id not in (None, tenant_id):
            raise GatewayError(f"the key is one of the tenant {tenant_id}, and these are runs of {self._tenant_id}")

    def _note(self, blind: str | None, at_s: float | None) -> None:
        """What the gateway knew before this process asked for the first time is not yet all that stood then."""
        if at_s is None or at_s >= self._begun_s:
            self.failure = blind
            # A machine that slept while it was connected is behind the gateway's clock: nothing is newer than now.
            self._put(_Fresh(None if at_s is None else min(at_s, time.monotonic())))

    def _put(self, heard: "ControlRecord | _Fresh") -> None:
        with self._changed:
            while len(self._heard) >= MOST_WAITING and not self._closing.is_set():
                self._changed.wait(SILENCE_S)
            self._heard.append(heard)
            self._changed.notify_all()


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    """Name, id and data of each event."""
    name = event_id = data = ""
    while line := response.readline(MAX_LINE_BYTES):
        field, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data = value
        elif not field and data:
            yield name, event_id, json.loads(data)
            name = event_id = data = ""


def _record(data: Any) -> ControlRecord:
    return ControlRecord(data["value"].encode(), tuple((name, value.encode()) for name, value in data["headers"]))
