"""Which record of control.v1 holds a target back."""

import pytest

from schemas.codec import encode
from schemas.control import Command, Target
from schemas.policy import Action
from streams.kafka.commands_in_force import stands

NOW_MS = 1_795_276_800_000


@pytest.mark.parametrize(
    ("action", "expires_ms", "held"),
    [
        ("kill", NOW_MS + 1, True),
        ("pause", NOW_MS + 1, True),
        ("downgrade", NOW_MS + 1, True),
        ("resume", NOW_MS + 1, False),
        ("kill", NOW_MS, False),
    ],
)
def test_what_holds_a_target_back(action: Action, expires_ms: int, held: bool) -> None:
    """A kill, pause or downgrade until it runs out; a resume does not."""
    command = Command(
        command_id="c", action=action, tenant_id="acme", target=Target("run", "r1"), reason="", rule="run-cost",
        incident_id="i1", issued_ms=NOW_MS - 1, expires_ms=expires_ms, seq=1, cause_event_id=None, cause_ts_ms=0,
    )  # fmt: skip
    assert stands(encode(command), NOW_MS) is held


def test_what_cannot_be_read_may_hold_it_back() -> None:
    """A command of a newer version must not keep an operator from resuming."""
    assert stands(b"{}", NOW_MS)
