"""What alerting says of its backlog, for whoever waits until it has told everything."""

import pytest

from alerting.delivery.dispatcher import Pending
from streams.notifier.metrics import NotifierMetrics
from tests.support.facts import alert

NOTHING_DUE = Pending(count=1, overdue_pages=0, oldest_due_s=0)
"""Muted, or put off."""
DUE = Pending(count=1, overdue_pages=1, oldest_due_s=2)


@pytest.mark.parametrize(
    ("pending", "waiting", "settled"),
    [
        ({"chat": [NOTHING_DUE], "pager": []}, 0, 2),
        ({"chat": [NOTHING_DUE, DUE], "pager": []}, 0, 1),
        ({"chat": [], "pager": [DUE]}, 0, 1),
        ({"chat": [], "pager": []}, 1, 1),
    ],
    ids=["nothing due", "due at one of two partitions", "due at another receiver", "read, and not looked at"],
)
def test_an_alert_is_settled_once_nothing_is_due(pending: dict[str, list[Pending]], waiting: int, settled: int) -> None:
    """Alerts count as settled as of a look that found nothing due, and not by having been read since."""
    metrics = NotifierMetrics()
    sound = dict.fromkeys(pending, False)
    metrics.alert_read(alert())
    metrics.backlog({}, sound, waiting=0)
    metrics.alert_read(alert())
    assert metrics.registry.get_sample_value("spendfuse_alerting_settled_alerts") == 1
    metrics.backlog(pending, sound, waiting)
    assert metrics.registry.get_sample_value("spendfuse_alerting_settled_alerts") == settled
