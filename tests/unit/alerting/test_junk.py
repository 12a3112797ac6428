"""Records that nobody should have written: each is set aside by itself, and everybody is told of everything else."""

import pytest

from alerting.delivery.log import DeliveryLog
from schemas.codec import MAX_ALERT_BYTES, decode_alert, encode
from schemas.errors import Undecodable
from schemas.usage import END_MS
from tests.support.telling import MINUTE_MS, NOON_MS, World, alert, refused

SLACK = {"receivers": {"team": {"type": "slack", "channel": "#c"}}, "route": [{"receivers": ["team"]}]}


def pending() -> tuple[str, bytes]:
    """Key and value of a page that is still to be sent, as alerting wrote it."""
    world = World(SLACK, lambda *_: refused("network"))
    world.alert(alert())
    ((key, value),) = world.store.items()
    return key, value


KEY, VALUE = pending()
JUNK = {
    "no UTF-8": ("j/team", b'{"type":"\xff"}'),
    "deep": ("j/team", b'{"type":"delivery","place":' + b"[" * 100_000),
    "no object": ("j/team", b"[]"),
    "of another version": ("j/team", b'{"type":"delivery_of_tomorrow"}'),
    "under another entry's key": ("j/team", VALUE),
    "without a key": ("", VALUE),
    "due in a million years": (KEY, VALUE.replace(b'"due_ms":', b'"due_ms":9')),
    "due after all times": (KEY, VALUE.replace(b'"due_ms":', b'"due_ms":' + b"9" * 400)),
}


@pytest.mark.parametrize(("key", "value"), JUNK.values(), ids=JUNK)
def test_junk_in_the_log_of_deliveries_is_set_aside(key: str, value: bytes) -> None:
    """The rest of the log is read, and what is set aside is named."""
    log = DeliveryLog.read([(key, value), ("operator/x", b"{}")])
    assert list(log.unreadable) == [key, "operator/x"]
    assert log.take_restored() == []


def test_a_copy_under_another_key_is_not_sent_at_every_start() -> None:
    """It would never be closed: whoever sends it writes the outcome under the entry's own key."""
    world = World(SLACK)
    world.store[KEY] = VALUE
    world.store["a copy"] = VALUE
    for _ in range(3):
        world.restart()
        world.after(30 * MINUTE_MS)
    assert world.told("team") == [("incident", "open", 1.0)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(encode(alert(evidence={"note": "x" * MAX_ALERT_BYTES})), "too_large", id="huge"),
        pytest.param(encode(alert(at_ms=NOON_MS // 1000)), "bad_time", id="in seconds"),
        pytest.param(encode(alert(at_ms=END_MS)), "bad_time", id="in microseconds"),
        pytest.param(encode(alert(at_ms=-(10**400))), "bad_time", id="before all times"),
    ],
)
def test_an_alert_that_the_log_could_not_keep_is_refused(value: bytes, reason: str) -> None:
    """What cannot be written, or reckoned with, is no alert: else it would end the process at each start."""
    with pytest.raises(Undecodable) as refusal:
        decode_alert(value)
    assert refusal.value.reason == reason
