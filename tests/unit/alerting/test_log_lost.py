"""The log of deliveries is deleted while alerting runs: what it knows is written again, and survives a restart."""

from schemas.operator import Silence
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, World, alert, refused

SLACK = {"receivers": {"team": {"type": "slack", "channel": "#c"}}, "route": [{"receivers": ["team"]}]}


def test_what_was_in_memory_is_known_after_a_restart() -> None:
    """What was pending is sent, once; what was sent is not sent again, and its end is; a silence holds."""
    away = {"team": False}
    world = World(SLACK, lambda *_: refused("network") if away["team"] else None)
    world.alert(alert("sent"))
    world.operator(
        Silence(
            message_id="m", tenant_id="acme", ts_ms=NOON_MS, who="ana", why="a move",
            match={"rule": "silenced"}, until_ms=NOON_MS + 24 * HOUR_MS,
        )
    )  # fmt: skip
    away["team"] = True
    world.alert(alert("pending", at_ms=NOON_MS + 1))
    world.lose_log()
    world.restart()
    away["team"] = False
    world.alert(alert("silenced", rule="silenced", at_ms=NOON_MS + MINUTE_MS))
    world.alert(alert("sent", at_ms=NOON_MS + MINUTE_MS, alert_id=alert("sent").alert_id))
    world.alert(alert("sent", state="resolved", at_ms=NOON_MS + 2 * MINUTE_MS))
    world.after(HOUR_MS)
    told = [(send.notice.alert.incident_id, send.notice.alert.state) for send in world.messages("team")]
    assert sorted(told) == [("pending", "open"), ("sent", "open"), ("sent", "resolved")]
