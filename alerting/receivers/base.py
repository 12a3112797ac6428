"""What every sender promises, and what an HTTP answer means for trying again."""

import time
from email.utils import parsedate_to_datetime
from typing import Protocol

from alerting.errors import Reason, SendError
from alerting.notice import Notice, Receipt

LONGEST_RETRY_AFTER_MS = 3_600_000
"""A receiver that asks for more is asked again after an hour all the same."""

_FINAL: dict[int, Reason] = {
    401: "bad_credentials",
    402: "bad_credentials",
    403: "bad_credentials",
    404: "no_such_place",
    405: "no_such_place",
    407: "bad_credentials",
    410: "no_such_place",
    413: "too_long",
}
_SAID = {
    401: "the token or key is wrong, or was revoked",
    403: "the token or key has no right to it",
    404: "there is nothing at this address",
    407: "a proxy on the way wants a login",
    410: "there is nothing at this address any more",
    429: "it takes fewer messages than it is sent",
}
# The request may have been carried out before the answer was lost: inside the receiver, or behind its gateway.
_DONE_PERHAPS = frozenset({500, 502, 504})


class Sender(Protocol):
    """Sends to one receiver, once per call: when to try again is decided elsewhere."""

    async def send(self, delivery_id: str, notice: Notice) -> Receipt:
        """Send a message, and return where it stands now: the newest receipt is the next notice's `first`.

        Raises:
            SendError: the receiver has not accepted it, or nobody knows.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        ...


def status_error(receiver: str, status: int, retry_after: str | None = None) -> SendError:
    """What an HTTP status other than success means. `retry_after` is the header of that name."""
    said = _SAID.get(status, "")
    detail = f"{receiver} answered with status {status}{said and f': {said}'}"
    wait_ms = retry_after_ms(retry_after)
    if status in (425, 429):
        return SendError("rate_limited", detail, retryable=True, retry_after_ms=wait_ms)
    if status == 408:
        return SendError("timeout", detail, retryable=True, retry_after_ms=wait_ms)
    if status >= 500:
        return SendError(
            "server_error", detail, retryable=True, ambiguous=status in _DONE_PERHAPS, retry_after_ms=wait_ms
        )
    # No other message would do better at an address that sends everybody elsewhere.
    unknown: Reason = "no_such_place" if 300 <= status < 400 else "bad_request"
    return SendError(_FINAL.get(status, unknown), detail, retryable=False)


def retry_after_ms(header: str | None) -> int | None:
    """A Retry-After header, in seconds or as a date, as milliseconds; None if there is none that makes sense."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    # Not a number compares as false, infinity as too much.
    return int(1000 * min(max(seconds, 0.0), LONGEST_RETRY_AFTER_MS / 1000)) if seconds == seconds else None
