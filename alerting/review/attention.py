"""What to look at: at most three things of a review, in words, each with what to do about it.

First what breaks a promise (a kill that was not obeyed or was wrong, spend that no figure holds), then what is about
the most money, then housekeeping. One thing of each sort at most, so that the three are three.
"""

from collections.abc import Callable, Iterator

from alerting.review.facts import (
    MIN_VERDICTS,
    WORTH_A_LINE_NANOUSD,
    Attention,
    Kill,
    Line,
    Review,
    Scope,
    Spike,
    Unpriced,
    Workflow,
)
from alerting.review.words import count, day, loosen, moment, named, percent, usd

MOST = 3
GREW_BY = 0.25
"""A tenant's growth from which on it is named."""
UNPRICED_SHARE = 0.01
"""Share of all tokens from which on calls without a price come first."""
_WORTH_SHARE = 0.01

Ranked = tuple[int, Attention]
"""The class, 0 first, and the thing."""


def attention(review: Review) -> tuple[Attention, ...]:
    """The three things, most pressing first; fewer if there are fewer."""
    worth = max(WORTH_A_LINE_NANOUSD, int(_WORTH_SHARE * review.totals.cost_nanousd))
    found = [one for finder in _FINDERS for one in finder(review)]
    kept = [one for one in found if one[0] != _MONEY or one[1].nanousd >= worth]
    kept.sort(key=lambda one: (one[0], -one[1].nanousd))
    return tuple(thing for _, thing in kept[:MOST])


_PROMISE, _MONEY, _HOUSEKEEPING, _LAST = range(4)


def _not_obeyed(review: Review) -> Iterator[Ranked]:
    kills = [kill for kill in review.kills if kill.fate == "went on"]
    if not kills or review.rehearsed:
        return
    worst = max(kills, key=lambda kill: kill.overshoot_nanousd or 0)
    spent = sum(kill.overshoot_nanousd or 0 for kill in kills)
    if len(kills) == 1:
        lead = "A kill was not obeyed."
        text = f"{_target(worst)} spent {usd(spent)} after {named(worst.rule)} had ordered it to stop."
    else:
        lead = f"{count(len(kills), 'kill')} were not obeyed."
        text = f"{usd(spent)} was spent after the orders, {usd(worst.overshoot_nanousd)} of it by {_target(worst)}."
    guards = "its guard" if len(kills) == 1 else "their guards"
    yield _PROMISE, Attention("kill not obeyed", lead, f"{text} Find out why {guards} did not act.", spent)


def _would_have_saved(review: Review) -> Iterator[Ranked]:
    spent = review.overshoot_nanousd or 0
    if review.rehearsed and review.kills and spent:
        worst = max(review.kills, key=lambda kill: kill.overshoot_nanousd or 0)
        lead = f"{count(len(review.kills), 'kill')} would have saved up to {usd(spent)}."
        text = f"{usd(worst.overshoot_nanousd)} of it by stopping {_target(worst)}, for {named(worst.rule)}."
        yield _PROMISE, Attention("would have saved", lead, text, spent)


def _wrong_kill(review: Review) -> Iterator[Ranked]:
    wrong = [kill for kill in review.kills if kill.verdict == "noise"]
    if not wrong:
        return
    kill = wrong[0]
    lead = "A kill was judged wrong." if len(wrong) == 1 else f"{count(len(wrong), 'kill')} were judged wrong."
    text = (
        f"{named(kill.who, 40)} on {_target(kill)}: “{named(kill.remark, 120)}”. Loosen {named(kill.rule)}, or let it "
        "only alert; a backtest shows what that changes."
    )
    yield _PROMISE, Attention("wrong kill", lead, text, 0)


def _target(kill: Kill) -> str:
    return f"{named(kill.target_id)} of {named(kill.tenant_id, 40)}"


def _unpriced(review: Review) -> Iterator[Ranked]:
    totals = review.totals
    if not totals.unpriced_calls or review.charges_unpriced:
        return
    weighs = totals.unpriced_tokens >= UNPRICED_SHARE * max(1, totals.input_tokens + totals.output_tokens)
    most = review.unpriced[0]
    text = (
        f"{count(totals.unpriced_calls, 'call')} ({count(totals.unpriced_tokens, 'token')}) came without a price and "
        f"count as $0, most of them from {_scope(most)}. Have the source send the cost, or set "
        "unpriced_usd_per_million_tokens."
    )
    yield _PROMISE if weighs else _HOUSEKEEPING, Attention("unpriced", "Some spend is in no figure.", text, 0)


def _spike(review: Review) -> Iterator[Ranked]:
    if not review.spikes:
        return
    worst = review.spikes[0]
    text = (
        f"It cost {usd(worst.cost_nanousd)} on {day(worst.day_ms, review.week.timezone)}; the median of its days the "
        f"week before was {usd(worst.usual_nanousd)}. See which runs made the difference."
    )
    lead = f"{_scope(worst)} had a day at {worst.ratio:.1f} x its usual."
    yield _MONEY, Attention("spike", lead, text, worst.excess_nanousd)


def _growth(review: Review) -> Iterator[Ranked]:
    growing = [line for line in review.tenants.lines if line.before_nanousd and _grown(line) >= 0]
    if not growing:
        return
    line = max(growing, key=_grown)
    share = _grown(line) / (line.before_nanousd or 1)
    # The day out of the ordinary tells it already.
    told = bool(review.spikes) and review.spikes[0].tenant_id == line.name
    if share >= GREW_BY and not told:
        lead = f"{named(line.name)} spent {percent(share)} more than {_before(review)}."
        text = f"{usd(line.cost_nanousd)}, {usd(_grown(line))} more. Ask its owner whether that was meant."
        yield _MONEY, Attention("growth", lead, text, _grown(line))


def _grown(line: Line) -> int:
    return line.cost_nanousd - (line.before_nanousd or 0)


def _new(review: Review) -> Iterator[Ranked]:
    if review.new:
        most = review.new[0]
        text = f"It cost {usd(most.cost_nanousd)}, with nothing yet to compare with. See that a budget covers it."
        yield _MONEY, Attention("new", f"{_scope(most)} is new.", text, most.cost_nanousd)


def _low_acceptance(review: Review) -> Iterator[Ranked]:
    if review.low_acceptance:
        worst = max(review.low_acceptance, key=_not_used_nanousd)
        text = (
            f"{percent(worst.acceptance)} of {count(worst.totals.outcomes, 'reported outcome')} were accepted or "
            f"edited; the rest cost about {usd(_not_used_nanousd(worst))}."
        )
        lead = f"Little of what {named(worst.name)} makes is used."
        yield _MONEY, Attention("low acceptance", lead, text, _not_used_nanousd(worst))


def _not_used_nanousd(workflow: Workflow) -> int:
    return int(workflow.totals.cost_nanousd * (1 - (workflow.acceptance or 0)))


def _retries(review: Review) -> Iterator[Ranked]:
    if review.high_retries:
        worst = max(review.high_retries, key=_retried_nanousd)
        lead = f"{named(worst.name)} retries {percent(worst.retry_share)} of its calls."
        text = (
            f"{worst.totals.retries:,} of {worst.totals.calls:,} were second attempts or later, and every attempt is "
            "charged. See which errors they follow."
        )
        yield _MONEY, Attention("retries", lead, text, _retried_nanousd(worst))


def _retried_nanousd(workflow: Workflow) -> int:
    return int(workflow.totals.cost_nanousd * (workflow.retry_share or 0))


def _silent(review: Review) -> Iterator[Ranked]:
    if review.silent:
        most = review.silent[0]
        text = f"It spent {usd(most.cost_nanousd)} in {_before(review)} and nothing in this one. See whether it rests."
        yield _HOUSEKEEPING, Attention("silent", f"{_scope(most)} has gone silent.", text, most.cost_nanousd)


def _noisy(review: Review) -> Iterator[Ranked]:
    noisy = [one for one in review.incidents if one.is_noisy]
    if noisy:
        worst = max(noisy, key=lambda one: one.verdicts.noise)
        text = (
            f"{worst.verdicts.noise} of {worst.verdicts.judged} judged incidents were noise. {loosen(worst)} "
            "A backtest shows what that changes."
        )
        yield _HOUSEKEEPING, Attention("noise", f"{named(worst.rule)} is mostly noise.", text, 0)


def _expiring(review: Review) -> Iterator[Ranked]:
    if review.exceptions_expiring:
        first = review.exceptions_expiring[0]
        text = (
            f"{named(first.scope)} has {usd(first.limit_nanousd)} on {named(first.rule)} until "
            f"{moment(first.until_ms, review.week.timezone)} ({named(first.why, 80)}). Renew it, or expect alerts at "
            "the ordinary limit."
        )
        yield _HOUSEKEEPING, Attention("expiring", "A raised budget ends soon.", text, 0)


def _unjudged(review: Review) -> Iterator[Ranked]:
    said = review.verdicts
    if said.unjudged >= MIN_VERDICTS and not said.judged:
        text = (
            f"Of {count(said.unjudged, 'incident')} none was called useful or noise, so that nobody knows whether "
            "they are worth reading. One click each is enough."
        )
        yield _LAST, Attention("unjudged", "Nobody has judged the alerts.", text, 0)


def _scope(of: Spike | Scope | Unpriced) -> str:
    return f"{named(of.workflow)} of {named(of.tenant_id, 40)}"


def _before(review: Review) -> str:
    return "the week before" if review.is_over else "the same stretch of the week before"


_FINDERS: tuple[Callable[[Review], Iterator[Ranked]], ...] = (
    _not_obeyed, _would_have_saved, _wrong_kill, _unpriced, _spike, _growth, _new, _low_acceptance, _retries, _silent,
    _noisy, _expiring, _unjudged,
)  # fmt: skip
