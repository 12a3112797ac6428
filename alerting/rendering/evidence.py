"""What an alert's evidence says to people, the most useful first: what its summary says already is left out."""

from collections.abc import Callable, Iterator
from typing import Any

from alerting.rendering.course import ABOUT_DATA
from alerting.rendering.figures import amount, clock, time_of_day
from alerting.rendering.foreign import MOST_OF_A_LINE, clean, name, names
from schemas.alert import Alert
from schemas.duration import format_duration

MOST_LINES = 6
MOST_RUNS = 3
MOST_LISTED = 5

_OUTCOMES = {
    "accepted_runs": "accepted",
    "edited_runs": "edited",
    "escalated_runs": "escalated",
    "rejected_runs": "rejected",
    "unreported_runs": "not reported",
}
"""What runs came to, and how it is called."""
_UNSAID = frozenset({
    # In the summary.
    "active_days", "active_hours", "agents_in_a_row", "at_limit", "call_nanousd", "calls_in_a_row", "changed",
    "changed_from", "changed_to", "contract_nanousd", "counter", "counts", "day_runs", "days", "days_in_a_row",
    "dear_runs",
    "extra_nanousd", "failed_in_a_row", "finished_contexts", "finished_runs", "finished_sessions", "kind", "last",
    "missed_nanousd", "missing", "of_tool_calls", "period", "resent_nanousd", "results_verified", "runs_in_a_row",
    "runs_since", "sent_in_a_row", "share", "surely_the_same", "tokens", "tool", "tools", "usual_share",
    "weeks_nanousd", "without_args_hash",
    # In what is said of the incident's course.
    "action", "back_to_normal", "cause_to_stop_ms", "late", "limit_raised", "nudge_delivered_ms", "nudged_ms",
    "is_silent", "overshoot_nanousd", "run_status",
    "runs_going_on", "runs_stopped", "since_ms", "stopped_nanousd",
    # In lines of their own.
    "accepted_ms", "accepted_nanousd", "allowed_until_ms", "allowed_up_to_nanousd", "args_hash", "computed_nanousd",
    "cost_nanousd", "examples", "forecast_limit_reached_ms", "latest_runs", "models", "owners", "prompt_hash",
    "quantiles_nanousd", "records", "reported_nanousd", "result_hash", "resumed_by", "rule_limit", "runs", "top_runs",
    "usual_quantiles_nanousd", "wasted_nanousd",
    *_OUTCOMES,
    # For machines.
    "baseline_of", "command_id", "log_mad", "mad_nanousd", "median_nanousd", "multiple", "repeated", "within_minutes",
})  # fmt: skip
_LABELS = {
    "above_usual_nanousd": "above what is usual",
    "alike_nanousd": "dearest day like it in the last month",
    "attempt": "attempt number",
    "context_reloads": "sent again without a cache",
    "breaching_hours": "hours like this so far",
    "calls": "model calls",
    "changed_ms": "first run with it at",
    "error_type": "last error",
    "first_tokens": "tokens at its start",
    "full_price_percent": "percent of them at full price",
    "explained": "with a reason",
    "forecast_nanousd": "at this pace, by the end of the period",
    "dearest_hour_nanousd": "dearest hour",
    "dearest_hour_start_ms": "dearest hour from",
    "held": "kills held back so far",
    "held_target": "kill held back",
    "held_rule": "by rule",
    "input_tokens": "input tokens each time",
    "issued_ms": "kill sent",
    "killed_by": "killed by rule",
    "latest_dear_runs": "the last of them",
    "latest_escalated_runs": "the last of them",
    "hour_start_ms": "hour from",
    "missing": "what is missing",
    "most_tokens": "most tokens of a call",
    "released": "let go on by",
    "resent_tokens": "tokens that had been sent before",
    "same_hour_nanousd": "usual at this hour of the day",
    "scope_id": "to resume it, scope",
    "since_about_ms": "since about",
    "stopped_by": "stopped by rule",
    "spent_nanousd": "all that was spent",
    "status": "last status",
    "with_edited_nanousd": "an accepted or edited one",
}


def evidence(alert: Alert) -> list[str]:
    """The facts behind an alert, one to a line and each at most once."""
    lines = [line for lines in _LINES for line in lines(alert)]
    lines += [_item(key, value) for key, value in alert.evidence.items() if _tells(alert, key, value)]
    return lines[:MOST_LINES]


def _tells(alert: Alert, key: str, value: Any) -> bool:
    """Whether it says what nothing else in the message does."""
    if key in _UNSAID or value in (None, "", [], {}) or (isinstance(value, str) and names(alert.summary, value)):
        return False
    if key == "status" and (value == "ok" or alert.evidence.get("error_type")):
        return False
    if isinstance(value, int) and (names(alert.summary, f"{value:,} {key}") or alert.evidence.get("counter") == key):
        return False
    if key == "model" and not alert.evidence.keys().isdisjoint(("finished_runs", "finished_contexts")):
        return False  # beside what is usual
    if key == "calls" and "runs_stopped" in alert.evidence:
        return False  # of the latest run alone
    return (key, value) not in (("attempt", 1), ("compactions", 0))


def _top_runs(alert: Alert) -> Iterator[str]:
    runs = alert.evidence.get("top_runs")
    if isinstance(runs, list):
        yield from (_run(one) for one in runs[:MOST_RUNS])


def _run(run: Any) -> str:
    known = run if isinstance(run, dict) else {"run_id": run}
    cost, run_id = known.get("cost_nanousd"), name(str(known.get("run_id", "?")))
    return f"{amount(cost, 'nanousd')} by run {run_id}" if isinstance(cost, int | float) else f"run {run_id}"


def _cost(alert: Alert) -> Iterator[str]:
    """What its run has cost, where the alert is about something else: as of then, and therefore not later."""
    cost = alert.evidence.get("cost_nanousd")
    of_a_unit = alert.detector not in ABOUT_DATA and "runs_stopped" not in alert.evidence
    if (
        isinstance(cost, int)
        and cost
        and of_a_unit
        and alert.unit != "nanousd"
        and alert.state in ("open", "escalated")
    ):
        yield f"cost so far: {amount(cost, 'nanousd')}"


def _forecast(alert: Alert) -> Iterator[str]:
    at_ms = alert.evidence.get("forecast_limit_reached_ms")
    if isinstance(at_ms, int) and at_ms > alert.ts_ms and alert.state != "resolved":
        yield f"at this pace the limit is reached in {format_duration(at_ms - alert.ts_ms)}, at {time_of_day(at_ms)}"


def _baseline(alert: Alert) -> Iterator[str]:
    if alert.baseline is not None and alert.limit is not None and alert.value >= alert.limit:
        yield f"alerts from {amount(alert.limit, alert.unit)} on"
    if alert.baseline is None:
        return
    hours, days = (alert.evidence.get(key) for key in ("active_hours", "active_days"))
    runs = alert.evidence.get("finished_runs", alert.evidence.get("finished_contexts"))
    if isinstance(days, int) and alert.detector == "daily_spend":
        yield f"usual: the median of the last {days:,} days with spend"
    if isinstance(hours, int):
        yield f"usual: the median of {hours:,} hours with spend in the last 7 days"
    if isinstance(runs, int):
        with_model = f" with {name(str(model), 60)}" if (model := alert.evidence.get("model")) else ""
        yield f"usual: the median of the workflow's last {runs:,} finished runs{with_model}"


def _quantiles(alert: Alert) -> Iterator[str]:
    """What one in ten runs, half of them and nine in ten stay below, and what it was before."""
    for key, words in (
        ("quantiles_nanousd", "a tenth, half, nine tenths below"),
        ("usual_quantiles_nanousd", "before"),
    ):
        listed = alert.evidence.get(key)
        if isinstance(listed, list) and all(isinstance(one, int) for one in listed):
            yield f"{words}: {', '.join(amount(one, 'nanousd') for one in listed)}"


def _spent_by(alert: Alert) -> Iterator[str]:
    """Who spent how much of a shared budget."""
    owners = alert.evidence.get("owners")
    for one in owners[:MOST_LISTED] if isinstance(owners, list) else ():
        if isinstance(one, dict) and (owner := one.get("owner")):
            cost = one.get("cost_nanousd")
            spent = amount(cost, "nanousd") if isinstance(cost, int) else "also"
            yield f"{spent} by {name(str(owner))}"


def _resumed(alert: Alert) -> Iterator[str]:
    """On whose word something goes on, and on which terms: why it was not stopped, or what it has used up."""
    found = alert.evidence
    if "released" not in found and (who := found.get("resumed_by")):
        up_to, until_ms, limit = (found.get(key) for key in ("allowed_up_to_nanousd", "allowed_until_ms", "rule_limit"))
        terms = [
            f"up to {amount(up_to, 'nanousd')}" if isinstance(up_to, int) else "",
            f"until {clock(until_ms)}" if isinstance(until_ms, int) else "",
            f"where the rule allows {amount(limit, alert.unit)}" if isinstance(limit, int) else "",
        ]
        yield ", ".join([f"let go on by {name(str(who))}", *filter(None, terms)])


def _accepted(alert: Alert) -> Iterator[str]:
    accepted_ms, before = alert.evidence.get("accepted_ms"), alert.evidence.get("accepted_nanousd")
    if isinstance(accepted_ms, int):
        spent = f"; {amount(before, 'nanousd')} until then does not" if isinstance(before, int) else ""
        yield f"counts since its output was accepted at {time_of_day(accepted_ms)}{spent}"


def _latest_runs(alert: Alert) -> Iterator[str]:
    runs = alert.evidence.get("latest_runs")
    if isinstance(runs, list) and runs:
        yield f"{'found last' if 'runs_going_on' in alert.evidence else 'stopped last'}: {_listed(runs)}"


def _results(alert: Alert) -> Iterator[str]:
    """What runs came to, each outcome apart, and what went for nothing."""
    counts = [(word, alert.evidence.get(key)) for key, word in _OUTCOMES.items()]
    if said := [f"{count:,} {word}" for word, count in counts if isinstance(count, int) and count]:
        yield f"outcomes: {', '.join(said)}"
    wasted = alert.evidence.get("wasted_nanousd")
    if isinstance(wasted, int) and wasted:
        yield f"{amount(wasted, 'nanousd')} went into rejected and retried work"


def _records(alert: Alert) -> Iterator[str]:
    """Of records that cannot be right: which, and what they would cost."""
    if alert.detector not in ABOUT_DATA:
        return
    found = alert.evidence
    reported, computed = found.get("reported_nanousd", found.get("cost_nanousd")), found.get("computed_nanousd")
    if isinstance(reported, int) and not names(alert.summary, shown := amount(reported, "nanousd")):
        yield f"reported cost: {shown}"
    if isinstance(computed, int) and not names(alert.summary, shown := amount(computed, "nanousd")):
        yield f"cost by the price tables: {shown}"
    for key, words in (("models", "models"), ("runs", "for example in runs"), ("examples", "for example")):
        listed = found.get(key)
        unnamed = [one for one in listed if not names(alert.summary, str(one))] if isinstance(listed, list) else []
        if unnamed:
            yield f"{words}: {_listed(unnamed)}"


def _listed(values: list[Any]) -> str:
    return ", ".join(name(str(one), 40) for one in values[-MOST_LISTED:])


def _signatures(alert: Alert) -> Iterator[str]:
    """Hashes stand for what was said: nobody sees a prompt, and two of the same hash were the same."""
    words = {"args_hash": "arguments", "result_hash": "result", "prompt_hash": "prompt"}
    hashes = [f"{words[key]} {name(str(value), 40)}" for key in words if (value := alert.evidence.get(key))]
    if hashes:
        yield "last call: " + ", ".join(hashes)


_LINES: tuple[Callable[[Alert], Iterator[str]], ...] = (
    _latest_runs,
    _spent_by,
    _top_runs,
    _resumed,
    _accepted,
    _results,
    _records,
    _cost,
    _forecast,
    _quantiles,
    _baseline,
    _signatures,
)


def _item(key: str, value: Any) -> str:
    plain = key.removesuffix("_nanousd").removesuffix("_ms").replace("_", " ")
    return f"{clean(_LABELS.get(key, plain), 40)}: {_shown(key, value)}"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _listed(value)
    if not isinstance(value, int | float):
        return name(str(value), MOST_OF_A_LINE - 50)
    if key.endswith("_nanousd"):
        return amount(value, "nanousd")
    if key.endswith("_ms"):
        is_moment = value > 10**12
        return clock(int(value)) if is_moment else amount(value, "ms")
    return amount(value, "")
