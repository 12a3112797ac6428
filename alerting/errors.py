"""A failure to send says whether to try again and when; its reason is from a closed list, a metric's label too."""

from typing import Literal

Reason = Literal[
    "timeout", "network", "rate_limited", "server_error", "bad_request", "bad_credentials", "no_such_place", "too_long",
    "circuit_open", "unknown",
]  # fmt: skip


class SendError(Exception):
    """A receiver has not accepted it.

    `ambiguous` means that it may have arrived: a time-out after the request was sent, a reset before the answer.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        retryable: bool,
        ambiguous: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
        self.retryable = retryable
        self.ambiguous = ambiguous
        self.retry_after_ms = retry_after_ms
