"""What an alert's evidence says to people, most telling first: what its summary says already is left out."""

from collections.abc import Callable, Iterator
from typing import Any

from alerting.rendering.figures import amount, clock, time_of_day
from alerting.rendering.foreign import MOST_OF_A_LINE, clean, name, names
from schemas.alert import Alert
from schemas.duration import format_duration

MOST_LINES = 6
MOST_RUNS = 3

_UNSAID = frozenset({
    # In the summary.
    "active_hours", "at_limit", "calls_in_a_row", "counter", "failed_in_a_row", "finished_runs", "kind", "last",
    "period", "results_verified", "sent_in_a_row", "surely_the_same", "tokens", "tool", "tools",
    # In what is said of the incident's course.
    "cause_to_stop_ms", "overshoot_nanousd", "run_status", "since_ms",
    # In lines of their own.
    "args_hash", "cost_nanousd", "forecast_limit_reached_ms", "prompt_hash", "result_hash", "top_runs",
    # For machines.
    "baseline_of", "command_id", "log_mad", "mad_nanousd", "median_nanousd", "multiple",
})  # fmt: skip
_LABELS = {
    "attempt": "attempt number",
    "calls": "model calls",
    "error_type": "last error",
    "held_target": "kill held back",
    "held_rule": "by rule",
    "input_tokens": "input tokens each time",
    "issued_ms": "kill sent",
    "killed_by": "killed by rule",
    "released": "released by an operator",
    "status": "last status",
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
    return not (key == "attempt" and value == 1)


def _top_runs(alert: Alert) -> Iterator[str]:
    runs = alert.evidence.get("top_runs")
    if isinstance(runs, list):
        yield from (_run(one) for one in runs[:MOST_RUNS])


def _run(run: Any) -> str:
    known = run if isinstance(run, dict) else {"run_id": run}
    cost, run_id = known.get("cost_nanousd"), name(str(known.get("run_id", "?")))
    return f"{amount(cost, 'nanousd')} by run {run_id}" if isinstance(cost, int | float) else f"run {run_id}"


def _cost(alert: Alert) -> Iterator[str]:
    """What its run has cost, where the alert is about something else: as it was told, and therefore not later."""
    cost = alert.evidence.get("cost_nanousd")
    if isinstance(cost, int) and alert.unit != "nanousd" and alert.state in ("open", "escalated"):
        yield f"cost so far: {amount(cost, 'nanousd')}"


def _forecast(alert: Alert) -> Iterator[str]:
    at_ms = alert.evidence.get("forecast_limit_reached_ms")
    if isinstance(at_ms, int) and at_ms > alert.ts_ms and alert.state != "resolved":
        yield f"at this pace the limit is reached in {format_duration(at_ms - alert.ts_ms)}, at {time_of_day(at_ms)}"


def _baseline(alert: Alert) -> Iterator[str]:
    if alert.baseline is not None and alert.limit is not None and alert.value >= alert.limit:
        yield f"told from {amount(alert.limit, alert.unit)} on"
    hours, runs = alert.evidence.get("active_hours"), alert.evidence.get("finished_runs")
    if isinstance(hours, int):
        yield f"usual: the median of {hours:,} hours with spend in the last 7 days"
    if isinstance(runs, int):
        yield f"usual: the median of the workflow's last {runs:,} finished runs"


def _signatures(alert: Alert) -> Iterator[str]:
    """Hashes stand for what was said: nobody sees a prompt, and two of the same hash were the same."""
    words = {"args_hash": "arguments", "result_hash": "result", "prompt_hash": "prompt"}
    hashes = [f"{words[key]} {name(str(value), 40)}" for key in words if (value := alert.evidence.get(key))]
    if hashes:
        yield "last call: " + ", ".join(hashes)


_LINES: tuple[Callable[[Alert], Iterator[str]], ...] = (
    _top_runs,
    _cost,
    _forecast,
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
        return ", ".join(name(str(one), 40) for one in value[:5])
    if not isinstance(value, int | float):
        return name(str(value), MOST_OF_A_LINE - 50)
    if key.endswith("_nanousd"):
        return amount(value, "nanousd")
    if key.endswith("_ms"):
        is_moment = value > 10**12
        return clock(int(value)) if is_moment else amount(value, "ms")
    return amount(value, "")
