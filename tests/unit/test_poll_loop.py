"""A poller's turns: a broker that goes away is waited for, and whoever ends the process waits for no turn."""

import logging
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas.errors import BrokerError
from streams.tools.polls import run
from streams.tools.polls.metrics import PollMetrics
from streams.tools.polls.reader import Reader, Turn
from streams.tools.polls.run import Loop, run_loop


class Turns:
    """What each turn comes to, in order; then the process is told to end."""

    def __init__(self, *turns: Turn | Exception) -> None:
        self.left = list(turns)
        self.end = threading.Event()

    def turn(self) -> Turn:
        found = self.left.pop(0)
        if not self.left:
            self.end.set()
        if isinstance(found, Exception):
            raise found
        return found

    def loop(self) -> Loop:
        return Loop(cast("Reader", self), "langfuse", 0.0, PollMetrics(), self.end)


AWAY = BrokerError("the broker did not take it")


def test_a_broker_that_goes_away_ends_no_poller() -> None:
    """Once it was there it is waited for, as everywhere; one that is not there at the start ends the process."""
    turns = Turns(Turn(), AWAY, AWAY, Turn())
    run_loop(turns.loop(), turns.end)
    assert turns.left == []
    with pytest.raises(BrokerError):
        run_loop(Turns(AWAY, Turn()).loop(), threading.Event())


def test_a_turn_that_hangs_holds_up_nobodys_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A system that answers slowly, or a broker that is away, kept a process from its end until it was killed."""
    monkeypatch.setattr(run, "END_S", 0.1)
    end, let_go = threading.Event(), threading.Event()

    def hangs() -> Any:
        end.set()
        let_go.wait(60)
        return Turn()

    caplog.set_level(logging.WARNING)
    hanging = cast("Reader", SimpleNamespace(turn=hangs))
    run_loop(Loop(hanging, "langfuse", 0.0, PollMetrics(), end), end)
    assert "a turn is given up" in caplog.text
    let_go.set()
