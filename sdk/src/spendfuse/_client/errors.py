"""Everything this package raises on purpose, and what an exception says of whoever it has ended.

SpendfuseError
├── InvalidEvent (also a ValueError)   the caller described an event the log would refuse; fix the call
├── Stopped                            the run must end; raised again at every later check
└── Paused                             the run must wait; check again after `until_ms`
"""

import asyncio
from collections.abc import Iterator
from typing import Literal


class SpendfuseError(Exception):
    """The root of this package's errors."""


class InvalidEvent(SpendfuseError, ValueError):
    """An event broke the contract. The text names the field and the bound, never the value."""


class Stopped(SpendfuseError):
    """The run must make no further call.

    `command_id`, `rule` and `incident_id` name the command that was obeyed. All three are None when the guard stopped
    the run by itself, because it could not read the control topic and was made with `when_blind="stop"`.
    """

    def __init__(
        self, reason: str, *, rule: str | None = None, command_id: str | None = None, incident_id: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule
        self.command_id = command_id
        self.incident_id = incident_id


class Paused(SpendfuseError):
    """The run must make no call before `until_ms` (epoch milliseconds), or before a resume, whichever is first."""

    def __init__(
        self,
        reason: str,
        *,
        until_ms: int = 0,
        rule: str | None = None,
        command_id: str = "",
        incident_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.until_ms = until_ms
        self.rule = rule
        self.command_id = command_id
        self.incident_id = incident_id


ENDED_BY_SIGNAL = (130, 143)
"""What programs exit with that end because of a SIGINT or a SIGTERM: 128 and the signal's number."""

End = Literal["completed", "stopped", "cancelled", "failed"]


def ended_by(error: BaseException | None) -> End:
    """Return how a block ended that `error` has left; several at once, as of a task group, count by the worst of them.

    What is no `Exception` is nobody's failure: an interrupt, a cancellation, an exit of the program or of a greenlet.
    An exit with a code other than 0 is one, but for those that shells give to whoever was ended by SIGINT or SIGTERM.
    """
    ends = {_end(each) for each in _leaves(error)}
    order: tuple[End, ...] = ("stopped", "failed", "cancelled")
    return next((end for end in order if end in ends), "completed")


def _leaves(error: BaseException | None) -> Iterator[BaseException | None]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for each in error.exceptions:
        yield from _leaves(each)


def _end(error: BaseException | None) -> End:
    match error:
        case None:
            return "completed"
        case Stopped():
            return "stopped"
        case SystemExit(code=code):
            return "completed" if code in (None, 0) else "cancelled" if code in ENDED_BY_SIGNAL else "failed"
        case Paused() | asyncio.CancelledError():
            return "cancelled"
        case Exception():
            return "failed"
        case _:
            return "cancelled"
