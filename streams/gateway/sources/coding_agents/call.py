"""What the log records of all coding agents have in common: a session is a run, and its calls are told one by one."""

from datetime import datetime
from typing import Any, Final

from streams.gateway.sources.otlp.log import Log
from streams.gateway.sources.otlp.usage import NS_PER_MS, attribution
from streams.gateway.sources.otlp.values import Attributes, Scalar, whole
from streams.gateway.sources.reported import short_id, short_name

USER: Final = ("user.email", "user.account_uuid", "user.account_id", "user.id", "installation.id")
"""Who uses the agent, the surest first."""


def about(log: Log, attributes: Attributes, session: Scalar | None, agent_kind: str) -> dict[str, Any]:
    """Which run, when, whose; what it does not say is left out, and without a run the message is none.

    Args:
        log: the record.
        attributes: its own and its resource's.
        session: the agent's own id of the session, which its hooks ask by.
        agent_kind: the workflow, where nobody has given it another name.
    """
    ended_ms, latency_ms = _ms(log), count(attributes, "duration_ms")
    told: dict[str, Any] = {
        **attribution(attributes),
        "ts_ms": ended_ms,
        "run_id": short_id(attributes.get("spendfuse.run_id") or session),
        "session_id": short_id(session),
        "started_ms": ended_ms - latency_ms if latency_ms else None,
        "latency_ms": latency_ms or None,
        "workflow": text(attributes, "spendfuse.workflow") or agent_kind,
        "user": text(attributes, "spendfuse.user", *USER),
    }
    return {name: value for name, value in told.items() if value is not None}


def text(attributes: Attributes, *names: str) -> str | None:
    """The value under the first of these names that says anything, cut to the length of a name."""
    return short_name(next((value for name in names if (value := attributes.get(name)) not in (None, "")), None))


def count(attributes: Attributes, name: str) -> int:
    """A number that may be text; 0 where there is none."""
    return max(0, whole(attributes.get(name)) or 0)


def says(attributes: Attributes, name: str, what: str) -> bool:
    """Whether a value, or its text, is this: truths come as `true` and as `"true"`."""
    return str(attributes.get(name)).lower() == what


def _ms(log: Log) -> int:
    """When it happened. Some leave the time out, and say it in an attribute."""
    if log.time_ns:
        return log.time_ns // NS_PER_MS
    try:
        return round(datetime.fromisoformat(str(log.attributes.get("event.timestamp"))).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
