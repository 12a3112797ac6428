"""What the changelog says was counted."""

import json
from collections import Counter

from models.state.rows import read_fields
from models.state.spend.totals import HourTotals
from tests.support.kafka import TopicSpace, read_all


def counted(space: TopicSpace) -> Counter[str]:
    """Tenant -> nano-dollars, as the newest rows of hourly totals have them, whatever partition they are in."""
    records = read_all(space.bootstrap, space.name("state.v1"))
    rows = {(record.partition, record.key or b""): record.value for record in records}
    totals: Counter[str] = Counter()
    for (_, key), value in rows.items():
        kind, *parts = json.loads(key)
        if kind == "totals" and value is not None:
            totals[parts[0]] += HourTotals.read(tuple(parts), 0, read_fields(value)).cost_nanousd
    return totals
