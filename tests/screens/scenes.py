"""What is in the pictures: alerts that the engine made of the demo's log and of `story.toml`, told as they would be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from alerting.notice import Kind, Notice
from alerting.receivers.slack.blocks import SlackMessage, slack_message, thread_reply
from alerting.rendering.figures import time_of_day
from alerting.rendering.meaning import acknowledgement
from models.rules.policy import read_policy_toml
from schemas.alert import Alert
from schemas.operator import Acknowledge
from streams.tools.backtest import effects_of
from streams.tools.scorecard import Scorecard
from tests.screens.block_kit import Posted
from tests.support.notices import HOSTILE
from tests.support.scenario import load, play

DEMO = Path(__file__).parents[2] / "infra" / "demo"
LINKS = {"Run": "https://runs.example/{tenant_id}/{run_id}", "Runbook": "https://docs.example/rules/{rule}"}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture."""

    name: str
    what: str
    posted: Sequence[Posted]


def scenes() -> Iterator[Scene]:
    """All of them, in the order in which they are listed."""
    budget = _of(_demo(), "tenant-hourly")
    loop = _of(_demo(), "same-call-again", run_id="initech-docs-agent-0023")
    disobeyed = _of(_demo(), "spending-after-kill", run_id="initech-docs-agent-0023")
    cap = _of(_story(), "run-cost", run_id="acme-refunds-2291")
    alike = [alert for alert in _of(_story(), "run-cost") if "review" in str(alert.run_id)]
    warnings = [one for one in (*_demo(), *_story()) if (one.severity, one.owner) == ("warning", "ana")]
    warnings = [one for one in warnings if one.state in ("open", "escalated") and one not in alike[5:]]
    storm = _of(_story(), "resent-and-charged")
    yield Scene("budget", "a tenant's hourly budget is used up", [_life(budget[:3])])
    yield Scene("budget-resolved", "the same message when the hour is over, with its thread", [_life(budget)])
    yield Scene("run-killed", "a run reaches its cap and is ordered to stop", [_life(cap[:2])])
    yield Scene("run-stopped", "the same message when the run has stopped", [_life(cap)])
    yield Scene("acknowledged", "the same message once somebody has it", [_acknowledged(cap)])
    yield Scene("loop", "the same call with the same result, over and over", [_life(loop[:2])])
    yield Scene("circle", "the same few calls, round and round", [_life(_of(_demo(), "going-in-circles")[-2:-1])])
    yield Scene("retry-storm", "the same model call re-sent and charged each time", [_life(storm[:2])])
    yield Scene("hour-5x", "an hour at five times the usual spend", [_life(_of(_demo(), "hourly-5x")[:1])])
    yield Scene("unusual-run", "a run far above what its workflow costs", [_life(_of(_story(), "unusual-run")[:1])])
    yield Scene("unpriced", "calls that no budget sees", [_life(_of(_story(), "unpriced")[:1])])
    yield Scene("not-stopped", "a killed run that goes on", [_life(disobeyed[:1])])
    yield Scene("reminder", "an incident that is still open an hour later", [_one(loop[2])])
    yield Scene("digest", "twelve warnings for one owner", [_told(Notice("digest", tuple(warnings)))])
    yield Scene("too-many", "more than a message holds", [_told(Notice("digest", tuple(alike[:10]), more=37))])
    yield Scene("flapping", "an incident that comes and goes", [_one(budget[1], "flapping")])
    yield Scene("maybe-repeated", "a message that may have arrived before", [_one(storm[0], maybe_repeated=True)])
    yield Scene("hostile", "names that try to be something else", [_one(_hostile(cap[1]))])


@cache
def _demo() -> tuple[Alert, ...]:
    policy = read_policy_toml((DEMO / "policy.toml").read_text(encoding="utf-8"))
    effects = effects_of(policy, DEMO / "usage.jsonl.gz", Scorecard(), progress=False)
    return tuple(effect.value for effect in effects if isinstance(effect.value, Alert))


@cache
def _story() -> tuple[Alert, ...]:
    return tuple(play(load(Path(__file__).with_name("story.toml"))).alerts())


def _of(alerts: Sequence[Alert], rule: str, run_id: str | None = None) -> list[Alert]:
    return [alert for alert in alerts if alert.rule == rule and run_id in (None, alert.run_id)]


def _hostile(alert: Alert) -> Alert:
    """An agent that names itself so that its alert pings everybody, looks resolved, and reads backwards."""
    names = {"workflow": HOSTILE["markup"], "environment": HOSTILE["right to left"], "project": HOSTILE["zero width"]}
    return replace(
        alert,
        run_id=HOSTILE["long"],
        owner=HOSTILE["mention"],
        tenant_id="acme\nRESOLVED all is well",
        scope={"tenant_id": "acme", "workflow": HOSTILE["markup"]},
        attribution=names,
        evidence={"calls": 41, "tool": HOSTILE["control"], "last_tool": HOSTILE["control"], "note": HOSTILE["marks"]},
    )


def _life(alerts: Sequence[Alert]) -> Posted:
    """The message of an incident after these alerts: posted at the first, edited at each of the others."""
    first, *later = alerts
    replies = [(_at(alert), thread_reply(Notice("incident", (alert,)))) for alert in later]
    return Posted(_message(Notice("incident", (alerts[-1],))), _at(first), edited=bool(later), replies=replies)


def _acknowledged(alerts: Sequence[Alert]) -> Posted:
    """The message of an incident that somebody has taken in hand half a minute after its second alert."""
    first, second, *_ = alerts
    order = Acknowledge(
        message_id="order", ts_ms=second.ts_ms + 30_000, tenant_id=second.tenant_id, who="ana",
        why="the refund tool is down, looking", incident_id=second.incident_id,
    )  # fmt: skip
    notice = Notice("acknowledged", (replace(second, ts_ms=order.ts_ms),), note=acknowledgement(order))
    replies = [(_at(second), thread_reply(Notice("incident", (second,)))), (_at(notice.alert), thread_reply(notice))]
    return Posted(_message(notice), _at(first), edited=True, replies=replies)


def _one(alert: Alert, kind: Kind = "incident", *, maybe_repeated: bool = False) -> Posted:
    return _told(Notice(kind, (alert,), maybe_repeated=maybe_repeated))


def _told(notice: Notice) -> Posted:
    return Posted(_message(notice), _at(max(notice.alerts, key=lambda alert: alert.ts_ms)))


def _message(notice: Notice) -> SlackMessage:
    return slack_message(notice, LINKS)


def _at(alert: Alert) -> str:
    return time_of_day(alert.ts_ms)[:5]
