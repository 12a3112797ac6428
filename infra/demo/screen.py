"""What the demo shows: alerts with their evidence, kills, acknowledgements, in a terminal."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from schemas.alert import Alert
from schemas.control import Command
from schemas.money import format_usd

COLOURS = {"critical": "1;31", "error": "31", "warning": "33", "info": "36", "resolved": "32", "dim": "2", "bold": "1"}
BAR_CELLS = 24


class Screen:
    """Prints to standard output, in colour where that is a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()

    def line(self, text: str = "", style: str = "") -> None:
        """One line."""
        code = COLOURS.get(style, "")
        print(f"\033[{code}m{text}\033[0m" if self._colour and code else text, flush=True)

    def title(self, text: str) -> None:
        """A heading."""
        self.line()
        self.line(text, "bold")

    def alert(self, alert: Alert) -> None:
        """An alert with the numbers behind it, as its owner would get it."""
        when = _clock(alert.ts_ms)
        if alert.state == "resolved":
            self.line(f"{when}  resolved  {alert.rule}: {_plain(alert.summary)}", "resolved")
            return
        self.line(f"{when}  {alert.severity.upper():<8}  {_plain(alert.summary)}", alert.severity)
        for text in _evidence(alert):
            self.line(f"          {text}", "dim")

    def kill(self, command: Command) -> None:
        """A command on its way."""
        target = f"{command.target.type} {_plain(command.target.id)}"
        self.line(
            f"{_clock(command.cause_ts_ms)}  {command.action.upper():<8}  {target}, ordered by {command.rule}",
            "critical",
        )

    def ack(self, run_id: str, cause_to_stop_ms: float, overshoot: int) -> None:
        """A run has stopped."""
        self.line(
            f"          STOPPED   {_plain(run_id)} acknowledged, {cause_to_stop_ms:.0f} ms after the cause; "
            f"overshoot {format_usd(overshoot)}",
            "resolved",
        )


def _evidence(alert: Alert) -> Iterable[str]:
    if alert.unit == "nanousd" and alert.limit:
        yield f"{_bar(alert.value, alert.limit)} {format_usd(int(alert.value))} of {format_usd(int(alert.limit))}"
    if alert.baseline:
        active = alert.evidence.get("active_hours")
        yield f"baseline {format_usd(int(alert.baseline))}, ratio {alert.ratio} x" + (
            f", over {active} active hours" if active else ""
        )
    shown = {name: value for name, value in alert.evidence.items() if isinstance(value, int | str) and value != ""}
    forecast_ms = shown.pop("forecast_limit_reached_ms", None)
    if forecast_ms:
        yield f"at this pace the limit is reached at {_clock(int(forecast_ms))}"
    top: list[dict[str, Any]] = alert.evidence.get("top_runs") or []
    if top:
        runs = ", ".join(f"{_plain(one['run_id'])} {format_usd(one['cost_nanousd'])}" for one in top[:3])
        yield f"top runs: {runs}"
    elif alert.unit != "nanousd":
        yield ", ".join(f"{name.replace('_', ' ')} {_plain(str(value))}" for name, value in list(shown.items())[:5])
    yield f"owner {_plain(alert.owner or 'unknown')}. {_plain(alert.next_action)}"


def _bar(value: float, limit: float) -> str:
    filled = min(BAR_CELLS, round(BAR_CELLS * value / limit))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def _clock(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%H:%M:%S")


def _plain(text: str) -> str:
    """Foreign text without control characters, so that a name cannot drive the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)[:200]
