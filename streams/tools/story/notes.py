"""What a story cannot tell: what retention and compaction have taken, and what cannot be checked here."""

from collections.abc import Iterator, Mapping

from alerting.delivery.log import KEEP_CLOSED_MS
from alerting.rendering.figures import clock
from alerting.rendering.foreign import name
from schemas.duration import format_duration
from streams.tools.story.fact import Fact
from streams.tools.story.subject import Belonging


def notes(known: Belonging, facts: list[Fact], dropped: Mapping[str, int | None], sent_again: int) -> Iterator[str]:
    """A sentence each. `dropped` holds the topics whose beginning is gone, and where they begin now."""
    for topic, begins_ms in dropped.items():
        begins = "is empty now" if begins_ms is None else f"begins at {clock(begins_ms)}"
        yield f"{topic} {begins}: what it held before is gone."
    answered = {fact.cause or "" for fact in facts if fact.kind == "ack"}
    gone = len((known.command_ids | answered) - {one.value.command_id for one in known.commands})
    if gone:
        yield f"control.v1 keeps the last command of a target: {gone} of this story's commands are gone from it."
    yield from _untold(known, facts)
    yield from _policy(known, facts)
    if sent_again:
        yield f"{sent_again:,} records of usage.v1 were sent again with the same event id; each event stands here once."


def _untold(known: Belonging, facts: list[Fact]) -> Iterator[str]:
    told = {fact.cause for fact in facts if fact.kind == "told"}
    untold = [one for one in known.alerts if one.value.alert_id not in told and one.value.mode != "shadow"]
    if untold:
        kept = format_duration(KEEP_CLOSED_MS)
        yield (
            f"deliveries.v1 knows nothing of {len(untold)} of the alerts: alerting has not come to them, or that was "
            f"over {kept} ago, for which it keeps answers."
        )


def _policy(known: Belonging, facts: list[Fact]) -> Iterator[str]:
    policies = [fact for fact in facts if fact.kind == "policy"]
    first_ms = min(fact.at_ms for fact in facts if fact.kind != "policy")
    if any(fact.at_ms < first_ms for fact in policies):
        return
    versions = sorted({name(one.value.policy_version, 60) for one in known.alerts})
    by_alerts = f"; its alerts name {', '.join(versions)}" if versions else ""
    yield f"policy.v1 does not say which policy was in force when it began{by_alerts}."
