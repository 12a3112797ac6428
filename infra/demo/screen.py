"""What the demo shows: what people are told, the kills that follow, and what came of them, as a story in a terminal."""

import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Final

from schemas.control import Command
from schemas.duration import format_duration
from schemas.money import format_usd
from streams.tools.inspection.terminal import WIDTH, clipped, entry

COLOURS: Final = {
    "CRITICAL": "1;31", "KILL": "1;31", "ERROR": "31", "WARNING": "33", "INFO": "36", "RESOLVED": "32", "STOPPED": "32",
    "bold": "1", "dim": "2",
}  # fmt: skip
INDENT: Final = 10
_REFERENCE: Final = re.compile(r"rule (\S+) · .*?(\d\d:\d\d:\d\d UTC) · incident (\S+)$")
_SHORT_ID: Final = 8


class Screen:
    """Prints to standard output, in colour where that is a terminal."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._is_terminal = self._out.isatty()

    def line(self, text: str = "", style: str = "") -> None:
        """One line."""
        code = COLOURS.get(style, "")
        shown = f"\033[{code}m{text}\033[0m" if self._is_terminal and code else text
        print(f"\r\033[K{shown}" if self._is_terminal else shown, file=self._out, flush=True)

    def title(self, text: str) -> None:
        """A heading."""
        self.line()
        self.line(text, "bold")

    def step(self, what: str, text: str) -> None:
        """A step of the preparations that is done."""
        for line in entry(what, text, indent=INDENT):
            self.line(line)

    def progress(self, what: str, text: str) -> None:
        """How far a step is: a line that the next one replaces; nothing where lines stay."""
        if self._is_terminal:
            print(f"\r\033[K{clipped(f'{what:<{INDENT}}{text}', WIDTH - 1)}", end="", file=self._out, flush=True)


class Message:
    """What alerting has told the terminal about one incident."""

    def __init__(self, lines: list[str]) -> None:
        """`lines` as the console receiver prints them: a headline, details, and last what to name it by."""
        self.word, _, self.headline = lines[0].partition("  ")
        found = _REFERENCE.search(lines[-1])
        self.rule, self.time, self.incident_id = found.groups() if found else ("", "", "")
        details = lines[1:-1] if found else lines[1:]
        whose = next((at for at, each in enumerate(details) if each.startswith("owner")), len(details) - 1)
        self._details = details[: whose + 1]
        self.orders_kill = any(each.startswith("A kill was sent") for each in details)
        self.tells_of_stop = any(each.startswith("The run stopped") for each in details)

    def lines(self, *, is_first: bool = True) -> Iterable[str]:
        """The message in a terminal: how bad, what, how far, what was done, what to do where it pages; whose it is in
        the first about an incident.
        """
        yield from entry(self.word, self.headline, 3, indent=INDENT)
        for detail in self._details:
            if detail.startswith("What to do") and self.word != "CRITICAL":
                continue
            if detail.startswith("owner") and not is_first:
                continue
            yield from entry("", detail, 3, indent=INDENT)
        if self.incident_id:
            name = f"{self.rule} · {self.time} · incident {self.incident_id[:_SHORT_ID]}"
            yield from entry("", name, indent=INDENT)


class Story:
    """Puts what several threads tell into the order of cause and effect: alert, kill, stop, end.

    What is about another tenant than the chapter's is kept for the end.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._tenants: tuple[str, ...] = ()
        self._known: set[str] = set()
        """Incidents of which something was shown."""
        self._told: set[str] = set()
        """Incidents whose page was shown."""
        self._kills: dict[str, Command] = {}
        """Kills to show, by command."""
        self._stops: dict[str, str] = {}
        """Lines about stops to show, by command."""
        self._ends: list[Message] = []
        """Messages about the ends of incidents, which come after the stop."""
        self._ordered: dict[str, str] = {}
        """Kills that were shown: command -> incident."""
        self._awaited: set[str] = set()
        """Incidents of a kill whose stop was not shown yet."""
        self._stopped: set[str] = set()
        """Those whose stop was shown."""
        self._aside: list[Message] = []
        self.messages = 0
        """Messages of alerting that were taken in."""

    def chapter(self, title: str, *tenants: str) -> None:
        """A heading; from now on it is about these tenants."""
        with self._lock:
            self._screen.title(title)
            self._tenants = tenants

    def message(self, message: Message, tenant_id: str | None) -> None:
        """Alerting has told something."""
        with self._lock:
            self.messages += 1
            if tenant_id is not None and tenant_id not in self._tenants:
                self._aside.append(message)
            elif message.word == "RESOLVED":
                # Of what was over before it could be told, alerting tells only the end.
                self._told.add(message.incident_id)
                if message.tells_of_stop and message.incident_id not in self._stopped:
                    self._awaited.add(message.incident_id)
                self._ends.append(message)
            else:
                self._show(message)
                if message.orders_kill:
                    self._told.add(message.incident_id)
                    self._awaited.add(message.incident_id)
            self._release()

    def kill(self, command: Command) -> None:
        """The engine has ordered a kill."""
        with self._lock:
            self._kills[command.command_id] = command
            self._awaited.add(command.incident_id)
            self._release()

    def stop(self, command_id: str, run_id: str, took_ms: int, overshoot: int) -> None:
        """A run has obeyed, so long after the cause, and has spent so much in between."""
        text = f"{run_id}, {format_duration(took_ms)} after the cause; overshoot {format_usd(overshoot)}"
        with self._lock:
            self._stops[command_id] = text
            self._release()

    def end_chapter(self) -> None:
        """Show what still waits for something that did not come."""
        with self._lock:
            self._told |= self._awaited
            self._release()
            self._awaited.clear()
            self._release()

    def asides(self) -> list[Message]:
        """What was told about others."""
        return self._aside

    def _release(self) -> None:
        for command_id, command in list(self._kills.items()):
            if command.incident_id in self._told:
                del self._kills[command_id]
                self._ordered[command_id] = command.incident_id
                at = datetime.fromtimestamp(command.cause_ts_ms / 1000, UTC).strftime("%H:%M:%S")
                self._event("KILL", f"{command.target.type} {command.target.id} at {at}, ordered by {command.rule}")
        for command_id, text in list(self._stops.items()):
            if command_id in self._ordered:
                del self._stops[command_id]
                self._awaited.discard(self._ordered[command_id])
                self._stopped.add(self._ordered[command_id])
                self._event("STOPPED", text)
        for message in [one for one in self._ends if one.incident_id not in self._awaited]:
            self._ends.remove(message)
            self._show(message)

    def _event(self, word: str, text: str) -> None:
        for line in entry(word, text, indent=INDENT):
            self._screen.line(line, word)

    def _show(self, message: Message) -> None:
        first, *rest = message.lines(is_first=message.incident_id not in self._known)
        self._known.add(message.incident_id)
        self._screen.line(first, message.word)
        for line in rest:
            self._screen.line(line, "dim")


def read_messages(lines: Iterable[str]) -> Iterable[Message]:
    """The messages in what the console receiver prints: a headline begins at the margin, all else is set in."""
    block: list[str] = []
    for raw in lines:
        line = raw.rstrip("\n")
        if block and not line.startswith(" "):
            yield Message(block)
            block = []
        if line.strip():
            block.append(line.strip())
        if block and _REFERENCE.search(line):
            yield Message(block)
            block = []
    if block:
        yield Message(block)
