"""The demo tells a story: causes before kills, kills before stops, stops before ends, on 80 columns."""

import io
from itertools import permutations
from typing import Any

import pytest
from spendfuse import Stopped

from infra.demo.agents import Agents
from infra.demo.screen import Message, Screen, Story, read_messages
from schemas.control import Target
from tests.support.facts import command

INCIDENT = "048d9f67e2bb098e19489d3c1a37eae0"
REFERENCE = f"rule run-cost · Thu 26 Nov 2026, 10:14:37 UTC · incident {INCIDENT}"
PAGE = f"""\
CRITICAL  acme / docs: The run has cost $5.03 of its $5.00 cap
    ████████████████████ 100%
    A kill was sent to the run, not yet confirmed.
    What to do: Look at the last calls of the run before it is started again.
    owner ana · run r1 · environment prod · project platform · agent openhands · more of it
    model calls: 53
    Critical · {REFERENCE}
"""
END = f"""\
RESOLVED  acme / docs: The run has cost $5.03 of its $5.00 cap
    The run stopped at 14:24:56 UTC, within 21 ms and spent nothing more.
    owner ana · run r1
    Critical · {REFERENCE}
"""
KILL = command(incident_id=INCIDENT, target=Target("run", "r1"))


def told(text: str) -> list[Message]:
    """The messages in what alerting prints."""
    return list(read_messages(io.StringIO(text)))


def story() -> tuple[Story, io.StringIO]:
    """A story of acme's, and what it shows."""
    out = io.StringIO()
    begun = Story(Screen(out))
    begun.chapter("1  A run that costs too much", "acme")
    return begun, out


def words(shown: io.StringIO) -> list[str]:
    """How the shown parts begin."""
    return [line.split()[0] for line in shown.getvalue().splitlines() if line[:1].isupper()]


def test_what_alerting_prints_is_read_message_by_message() -> None:
    """Each with how bad it is and its incident, whatever pieces it came in."""
    messages = told(PAGE + END + "WARNING  3 incidents\n    and 2 more\n" + PAGE)
    assert [each.word for each in messages] == ["CRITICAL", "RESOLVED", "WARNING", "CRITICAL"]
    assert [each.incident_id for each in messages] == [INCIDENT, INCIDENT, "", INCIDENT]


def test_a_message_fits_a_terminal_and_breaks_no_word() -> None:
    """Only what a newcomer needs, a short id, and words that stay whole."""
    lines = list(told(PAGE)[0].lines())
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "          run-cost · 10:14:37 UTC · incident 048d9f67"
    assert " ".join(" ".join(lines).split()).startswith("CRITICAL acme / docs: The run has cost $5.03 of its $5.00 cap")
    assert "model calls" not in "\n".join(lines)


ORDERS = [order for order in permutations(("page", "kill", "stop", "end")) if order.index("page") < order.index("end")]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_causes_come_before_what_follows(order: tuple[str, ...]) -> None:
    """Alerting, guard and engine are processes of their own; in whatever order one hears of them, it is told right."""
    begun, shown = story()
    tell: dict[str, Any] = {
        "page": lambda: begun.message(told(PAGE)[0], "acme"),
        "end": lambda: begun.message(told(END)[0], "acme"),
        "kill": lambda: begun.kill(KILL),
        "stop": lambda: begun.stop(KILL.command_id, "r1", 16, 0),
    }
    for name in order:
        tell[name]()
    begun.end_chapter()
    assert words(shown) == ["CRITICAL", "KILL", "STOPPED", "RESOLVED"]
    assert "STOPPED   r1, 16 ms after the cause; overshoot $0.00" in shown.getvalue()


@pytest.mark.parametrize("order", list(permutations(("kill", "stop", "end"))), ids="-".join)
def test_what_is_over_before_it_was_told_has_an_order_too(order: tuple[str, ...]) -> None:
    """A busy machine tells only the end of a run that stopped at once: the kill and the stop stand before it, and none
    of them waits for the chapter's end.
    """
    begun, shown = story()
    tell: dict[str, Any] = {
        "end": lambda: begun.message(told(END)[0], "acme"),
        "kill": lambda: begun.kill(KILL),
        "stop": lambda: begun.stop(KILL.command_id, "r1", 16, 0),
    }
    for name in order:
        tell[name]()
    assert words(shown) == ["KILL", "STOPPED", "RESOLVED"]


def test_what_never_comes_holds_nothing_back() -> None:
    """A kill whose page was lost is shown at the end of its chapter, and another tenant's message at the very end."""
    begun, shown = story()
    begun.kill(KILL)
    begun.message(told(PAGE)[0], "globex")
    assert words(shown) == []
    begun.end_chapter()
    assert words(shown) == ["KILL"]
    assert [each.word for each in begun.asides()] == ["CRITICAL"]


class Stopping:
    """An emitter that writes nothing, with a guard that stops whom it is told to."""

    def __init__(self) -> None:
        self.stop: Any = None
        self.at_ms: list[int] = []
        self.clock: Any = None

    def on_stop(self, stop: Any) -> None:
        """Keep what is to be called."""
        self.stop = stop

    def watch(self, run: Any) -> None:
        """Nothing is watched."""

    def check(self, run: Any) -> None:
        """It must stop, and says so."""
        self.emit({})
        raise Stopped("too much", command_id="c1")

    def emit(self, event: dict[str, Any]) -> None:
        """Note when."""
        self.at_ms.append(self.clock())


def test_a_stop_takes_as_long_in_the_log_as_it_took() -> None:
    """A day in twenty seconds: 16 ms must not be told as 16 s. The log's time passes with its events, and while a run
    is being stopped with the real time.
    """
    both: Any = Stopping()
    agents = Agents(both, both)
    both.clock = agents.clock_ms
    event = {"type": "tool_call", "event_id": "e1", "ts_ms": 1_000_000, "tenant_id": "acme", "run_id": "r1"}
    agents.report(event)
    assert agents.clock_ms() == 1_000_000
    both.stop(agents.run("r1"), Stopped("too much", command_id="c1"))
    took_ms = int((agents.stops["c1"].at_s - agents.sent_at_s["e1"]) * 1000)
    assert set(both.at_ms[1:]) == {1_000_000 + took_ms}
    agents.report(event | {"event_id": "e2", "ts_ms": 1_015_000, "run_id": "r2"})
    assert agents.clock_ms() == 1_015_000
