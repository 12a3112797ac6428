"""A review in which every name that comes from outside is hostile."""

from typing import Any

from alerting.review.facts import PolicyException, Review, Terms
from tests.support.messages import DAY_MS, USD
from tests.support.reviews import (
    WEEK,
    feedback,
    hour,
    incident,
    kill,
    limit_exception,
    resume,
    reviewed,
    silence,
)


def hostile_review(name: str) -> Review:
    """Something of everything, with `name` for every tenant, workflow, rule, run, model, person and reason."""
    said: dict[str, Any] = {"tenant_id": name, "who": name, "why": name}
    quiet = [hour(day, 1, name, f"{name}{number}") for day in (-7, -6, -5) for number in range(7)]
    busy = [
        hour(2, 9 + number, name, f"{name}{number}", calls=100, retries=50, accepted=1, rejected=20, unpriced_calls=9,
             unpriced_tokens=99, runs_started=5, runs_finished=5)
        for number in range(7)
    ]  # fmt: skip
    alerts = [
        *incident("i1", "open", rule=name, tenant_id=name, run_id=name),
        *incident("i2", "open", rule=name, mode="shadow"),
        *incident("i3", "open", rule=name, detector="unpriced", evidence={"models": [name]}),
        *incident("i4", "open", detector="spending_after_kill", evidence={"command_id": "k", "overshoot_nanousd": USD}),
    ]
    commands = [
        kill("k", tenant_id=name, run_id=name, rule=name, incident_id="i1"),
        kill("l", tenant_id=name, run_id=f"{name}2", rule=name, incident_id="i9"),
    ]
    orders = [
        feedback("i1", "noise", **said), resume(f"{name}2", WEEK.end_ms - 1, **said),
        silence(WEEK.start_ms, 2**63 - 1, match={name: name}, **said),
        limit_exception(WEEK.start_ms, WEEK.end_ms + DAY_MS, rule=name, scope=name, **said),
    ]  # fmt: skip
    written = PolicyException(name, name, 5 * USD, WEEK.end_ms + DAY_MS, name, name)
    new = [hour(3, 8, name, f"{name} new")]
    gone = [hour(-4, 8, name, f"{name} gone")]
    return reviewed(
        *quiet, *busy, *new, *gone, alerts=alerts, commands=commands, orders=orders, terms=Terms(exceptions=(written,))
    )
