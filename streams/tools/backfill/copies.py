"""What is sent again of an event that came too late: the same, marked, under an id of its own that follows from it."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from models.identity import derived_id
from models.spend.backfill import is_bookable
from schemas.usage import ATTRIBUTION, LlmCall, Outcome, RunStarted, ToolCall, UsageMessage

MOST_TAGS: Final = 16

Bookable = LlmCall | ToolCall | Outcome


class EventKey(NamedTuple):
    """What tells an event from all others."""

    tenant_id: str
    event_id: str


def key_of(message: UsageMessage) -> EventKey:
    """The event's own key."""
    return EventKey(message.tenant_id, message.event_id)


def copy_id(event: EventKey) -> str:
    """The id of the copy that books this event, the same whoever makes it: it counts once, however often it is made."""
    return derived_id("backfill", *event)


def copies_of(messages: Iterable[UsageMessage]) -> dict[EventKey, Bookable]:
    """The copies to write, by the keys of the events that they book. What says nothing of spend has none.

    A copy says whose it is where its run did so in an event that came too late as well: nobody else has read that.
    """
    messages = list(messages)
    started = {(one.tenant_id, one.run_id): one for one in messages if isinstance(one, RunStarted)}
    return {key_of(one): _copy(one, started) for one in messages if is_bookable(one)}


def _copy(message: Bookable, started: Mapping[tuple[str, str], RunStarted]) -> Bookable:
    changes: dict[str, object] = {"event_id": copy_id(key_of(message)), "backfill": True}
    run = started.get((message.tenant_id, message.run_id))
    if run is not None:
        changes |= {name: getattr(message, name) or getattr(run, name) for name in ATTRIBUTION}
        tags = (message.tags or {}) | {
            name: tag for name, tag in (run.tags or {}).items() if name not in (message.tags or {})
        }
        changes["tags"] = dict(list(tags.items())[:MOST_TAGS]) or None
    return replace(message, **changes)
