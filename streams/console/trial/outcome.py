"""What a trial of two policies comes to, as it goes from its process to the page."""

import msgspec


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy would have come to."""

    version: str
    events: int
    pages: int
    notices: int
    kills: int
    false_kills: int
    saved_nanousd: int
    overshoot_nanousd: int
    held_back_nanousd: int
    alerts: dict[str, int]
    """Rule -> alerts."""


class Only(msgspec.Struct, frozen=True):
    """An alert of one of the policies alone."""

    rule: str
    severity: str
    summary: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Both policies over the same log."""

    in_force: Tried
    proposed: Tried
    both: int
    """Alerts of both."""
    only_in_force: list[Only]
    only_proposed: list[Only]
    left_out: int
    """Of those lists, beyond what they hold."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far it is: 0 to 1."""

    what: str
    share: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It has come to an end."""

    comparison: Comparison


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It has not."""

    fault: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried."""

    tenant_id: str | None
    since_ms: int
    until_ms: int
    in_force: str
    """As JSON: what policy.v1 holds."""
    proposed: str
    """As TOML."""


Line = Progress | Done | Failed
read_line = msgspec.json.Decoder(Line).decode
read_asked = msgspec.json.Decoder(Asked).decode
