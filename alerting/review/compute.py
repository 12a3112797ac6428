"""Making the review of a week out of what the topics hold. Pure: the same records give the same review."""

from dataclasses import replace

from alerting.review import incidents as incident_log
from alerting.review import spend as spending
from alerting.review.attention import attention
from alerting.review.facts import Records, Review, Terms
from alerting.review.week import DAYS, Week


def review_of(week: Week, records: Records, terms: Terms, now_ms: int) -> Review:
    """The review of a week as known at `now_ms`; a week that is not over is counted so far.

    Raises:
        ValueError: the week has not begun.
    """
    if now_ms <= week.start_ms:
        raise ValueError(f"week {week.label} has not begun")
    until_ms = min(now_ms, week.end_ms)
    alerts, commands, orders = list(records.alerts), list(records.commands), list(records.orders)
    spend = spending.add_up(records.rollups, week, until_ms)
    known_before = spend.scopes_before if spend.comparable else None
    workflows = spending.workflows(spend)
    ranked = spending.ranking(
        spending.by_workflow(spend.scopes), None if known_before is None else spending.by_workflow(known_before)
    )
    said = incident_log.judged(orders)
    incidents = incident_log.incidents_of(alerts, week, until_ms)
    told = {one: found for one, found in incidents.items() if found[-1].mode != "shadow"}
    on_trial = {one: found for one, found in incidents.items() if one not in told}
    review = Review(
        week=week,
        until_ms=until_ms,
        since_ms=spend.since_ms,
        comparable=spend.comparable,
        totals=spending.total(spend.scopes.values()),
        before=None if known_before is None else spending.total(known_before.values()),
        days=spending.daily(spend, ranked),
        before_days_nanousd=_sums_of_days(spend) if spend.comparable else None,
        hours_nanousd=spending.hours_of_the_week(spend),
        tenants=spending.ranking(
            spending.by_tenant(spend.scopes), None if known_before is None else spending.by_tenant(known_before)
        ),
        workflows=ranked,
        spikes=spending.spikes(spend),
        new=() if known_before is None else spending.only_in(spend.scopes, known_before),
        silent=() if known_before is None else spending.only_in(known_before, spend.scopes),
        outcomes=spending.with_outcomes(workflows),
        low_acceptance=spending.with_low_acceptance(workflows),
        high_retries=spending.with_high_retries(workflows),
        expensive_runs=spending.most_expensive_runs(workflows),
        expensive_hours=spending.most_expensive_hours(workflows),
        unpriced=spending.unpriced(spend),
        unpriced_models=incident_log.models_without_price(told),
        charges_unpriced=terms.charges_unpriced,
        kills=incident_log.kills(commands, alerts, orders, said, week, until_ms),
        commands=incident_log.commands_given(commands, week, until_ms),
        incidents=incident_log.by_rule(told, said, terms.thresholds),
        on_trial=incident_log.by_rule(on_trial, said, terms.thresholds),
        verdicts=incident_log.verdicts(told, said),
        silences=incident_log.silences_given(orders, week, until_ms),
        exceptions_given=incident_log.exceptions_given(orders, week, until_ms),
        exceptions_expiring=incident_log.exceptions_expiring(terms.exceptions, orders, until_ms),
        rehearsed=terms.rehearsed,
    )
    return replace(review, attention=attention(review))


def _sums_of_days(spend: spending.Spend) -> tuple[int, ...]:
    return tuple(sum(days[day] for days in spend.days_before.values()) for day in range(DAYS))
