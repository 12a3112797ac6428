"""Everything this package raises on purpose.

SpendfuseError
├── InvalidEvent (also a ValueError)   the caller described an event the log would refuse; fix the call
├── Stopped                            the run must end; raised again at every later check
└── Paused                             the run must wait; check again after `until_ms`
"""


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
