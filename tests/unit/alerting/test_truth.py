"""In the end people know what is true, whatever happened on the way."""

import random
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.operator import Silence
from tests.support.telling import (
    HOUR_MS,
    MINUTE_MS,
    NOON_MS,
    SECOND_MS,
    Answer,
    CrashError,
    World,
    alert,
    refused,
)

POLICY = {
    "receivers": {
        "pager": {"type": "pagerduty", "key_env": "K", "fallback": "team"},
        "team": {"type": "slack", "channel": "#c"},
    },
    "route": [
        {"match": {"severity": ["critical"]}, "receivers": ["pager"], "continue": True},
        {"receivers": ["team"], "hold_seconds": 20},
    ],
}


def history(chance: random.Random) -> tuple[list[Alert], dict[str, Alert]]:
    """What an engine could say of ten incidents that open, rise, end and come back; and what is true in the end."""
    alerts: list[Alert] = []
    truth: dict[str, Alert] = {}
    at_ms = NOON_MS
    for _ in range(120):
        at_ms += chance.choice([1, SECOND_MS, 40 * SECOND_MS, 3 * MINUTE_MS])
        name = f"i{chance.randrange(10)}"
        now = truth.get(name)
        if now is None or now.state == "resolved":
            new = alert(name, chance.choice([0.5, 0.8, 1.0]), at_ms=at_ms)
        elif now.level < 1 and chance.random() < 0.5:
            new = alert(name, 1.0 if now.level > 0.5 else 0.8, state="escalated", at_ms=at_ms)
        else:
            new = alert(name, now.level, state=chance.choice(["resolved", "resolved", "reminder"]), at_ms=at_ms)
        truth[name] = new
        alerts.append(new)
    return alerts, truth


def play(world: World, alerts: list[Alert], chance: random.Random) -> None:
    """Hand in a history, with a silence in it, dying now and then."""
    quiet = Silence(
        message_id="s", ts_ms=NOON_MS, tenant_id="acme", who="ana", why="w", match={"project": "i3"},
        until_ms=NOON_MS + HOUR_MS,
    )  # fmt: skip
    world.operator(quiet)
    for each in alerts:
        if chance.random() < 0.2:
            world.crash_at = chance.randrange(8)
        while True:
            try:
                world.alert(each)
                break
            except CrashError:
                world.restart()
    world.crash_at = None
    world.after(30 * HOUR_MS)


@pytest.mark.parametrize("seed", range(60))
def test_in_the_end_people_know_what_is_true(seed: int) -> None:
    """Every incident that was told is known to be over if it is, and every open one at its level or a higher
    one that it had; nothing is owed.
    """
    chance = random.Random(seed)
    ways: list[Answer] = [
        None,
        None,
        None,
        refused("server_error"),
        refused("timeout", ambiguous=True, arrived=True),
        refused("rate_limited", retry_after_ms=20 * SECOND_MS),
    ]
    world = World(POLICY, lambda *_: chance.choice(ways))
    alerts, truth = history(chance)
    play(world, alerts, chance)
    for receiver in ("pager", "team"):
        known = {each.incident_id: each for send in world.messages(receiver) for each in send.notice.alerts}
        hidden = sum(send.notice.more for send in world.messages(receiver))
        for name, true in truth.items():
            what = f"seed {seed}: {receiver} of {name}, truly {true.state} at {true.level}"
            heard = known.get(name)
            if true.state == "resolved":
                assert heard is None or heard.state == "resolved", what
            elif true.severity == "critical" or receiver == "team":
                assert hidden or heard is not None, what
                assert heard is None or (heard.state != "resolved" and heard.level >= true.level), what
    assert not [key for key, value in world.store.items() if b'"status":"pending"' in value], f"seed {seed}"


@pytest.mark.parametrize("owners", [1, 30])
def test_what_pages_is_listed_and_never_a_number(owners: int) -> None:
    """Sixty errors at once, of one owner or of thirty, are few messages, and each of them stands in one by name."""
    world = World({"receivers": POLICY["receivers"], "route": [{"receivers": ["team"]}]})
    for number in range(60):
        about: dict[str, Any] = {"severity": "error", "owner": f"owner-{number % owners}"}
        world.alert(alert(f"i{number}", 0.8, at_ms=NOON_MS, **about))
    world.after(10 * MINUTE_MS)
    messages = world.messages("team")
    assert len(messages) <= 30
    assert {each.incident_id for send in messages for each in send.notice.alerts} == {f"i{n}" for n in range(60)}
    assert sum(send.notice.more for send in messages) == 0
