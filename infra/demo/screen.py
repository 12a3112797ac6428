"""What the demo shows beside the alerts, which alerting prints: kills and their acknowledgements, in a terminal."""

import sys
from datetime import UTC, datetime

from schemas.control import Command
from schemas.money import format_usd

COLOURS = {"critical": "1;31", "resolved": "32", "bold": "1"}


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


def _clock(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%H:%M:%S")


def _plain(text: str) -> str:
    """Foreign text without control characters, so that a name cannot drive the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)[:200]
