"""Records of usage.v1 that cannot be read, one after another: whose are they, and is it them or us?

If nothing of what was read until now can be read any more, it is us: a newer schema, most likely, and everything that
went by would be counted nowhere. Then the worker stops. A flood from anybody else is set aside record by record, with
a page, and everything else goes on.
"""

from collections import Counter
from typing import Final

from models.engine import Engine
from schemas.alert import Alert
from schemas.duration import HOUR_MS
from streams.service_alert import UNREADABLE_FLOOD, service_alert

HEARD_MS: Final = HOUR_MS
"""Whose last readable record is older is no witness."""
WITNESSES: Final = 2
"""So many tenants at least must have been read before, and be read no more, for it to be us."""
ENOUGH_WITNESSES: Final = 100
"""So many are enough, however many others there are."""
MOST_KEYS: Final = 100
"""Record keys that are counted one by one; the rest are counted together."""
KEYS_NAMED: Final = 5
NO_KEY: Final = "(no key)"
OTHER_KEYS: Final = "(other keys)"


class UnreadableRow:
    """The records of one partition since the last one that could be read."""

    def __init__(self, partition: int, paged_hour_ms: int = 0) -> None:
        self._partition = partition
        self.paged_hour_ms = paged_hour_ms
        """The hour of the last page: whoever takes over has to know it."""
        self._keys: Counter[str] = Counter()
        self._silenced: set[str] = set()

    def begin(self) -> None:
        """Everything before was read, or is set aside for good."""
        self._keys.clear()
        self._silenced.clear()

    def add(self, key: bytes | None, engine: Engine, append_ms: int) -> str | None:
        """Note one more record. Returns whose it would have been, None where its key names nobody."""
        name = NO_KEY if key is None else key[:256].decode("utf-8", "replace")
        self._keys[name if name in self._keys or len(self._keys) < MOST_KEYS else OTHER_KEYS] += 1
        if key is not None and len(self._silenced) < ENOUGH_WITNESSES and engine.has_heard(name, append_ms - HEARD_MS):
            self._silenced.add(name)
        return None if key is None else name

    def is_ours(self, engine: Engine, append_ms: int) -> bool:
        """Whether more than half of the tenants that were read within the last hour are among them."""
        silenced = len(self._silenced)
        if silenced < WITNESSES:
            return False
        return silenced >= ENOUGH_WITNESSES or 2 * silenced > engine.heard(append_ms - HEARD_MS)

    def page(self, offset: int, append_ms: int, policy_version: str) -> Alert | None:
        """The alert about a flood that is set aside, once an hour."""
        hour_ms = append_ms - append_ms % HOUR_MS
        if hour_ms <= self.paged_hour_ms:
            return None
        self.paged_hour_ms = hour_ms
        records = self._keys.total()
        keys = dict(self._keys.most_common(KEYS_NAMED))
        return service_alert(
            UNREADABLE_FLOOD,
            self._partition,
            append_ms,
            policy_version,
            about=(hour_ms,),
            severity="critical",
            level=1.0,
            window_start_ms=hour_ms,
            window_end_ms=hour_ms + HOUR_MS,
            value=records,
            unit="records",
            evidence={"records": records, "keys": keys, "up_to_offset": offset},
            summary=f"{records:,} records in a row on usage.v1, partition {self._partition}, cannot be read, most of "
            f"them under the key {next(iter(keys))!r}. They are set aside and counted nowhere; all others go on.",
            next_action="Stop the producer that writes them: docs/runbooks/dead-letters.md",
        )
