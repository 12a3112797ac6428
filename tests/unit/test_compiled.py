"""What the compiled engine is compared by: all that is published and written, restarts included."""

from itertools import islice

import pytest

from infra.compiled.build import compare
from infra.compiled.decisions import LOG, POLICIES, RESTART_EVERY, decisions
from models.detectors import REGISTRY
from models.engine import COMPILED, Engine
from models.stimuli import UsageSeen
from streams.__main__ import main
from streams.tools.backtest import line_of, read_policy_file
from streams.tools.event_log import read_log

COUNT = RESTART_EVERY + 1_000
"""Enough for one restart and a batch after it."""


def test_decisions_are_those_of_an_engine_that_never_stopped() -> None:
    """Every effect is there, in order, and the rows with them; the restart in between is one from these rows."""
    policy = read_policy_file(POLICIES[0])
    events = list(islice((line for line in read_log(LOG) if isinstance(line, UsageSeen)), COUNT))
    lines = list(decisions(policy, iter(events)))
    engine = Engine(policy)
    for event in events:
        engine.handle(event)
    effects = [line_of(effect) for effect in engine.drain_effects()]
    assert effects
    assert [line for line in lines if line.startswith(b"{")] == effects
    assert any(line.startswith(b"row ") for line in lines)
    engine.drain_rows()
    assert lines[-1] == b"digest %016x\n" % engine.digest


def test_every_kind_of_rule_is_compared() -> None:
    """One that no policy names is compiled, and its decisions were never looked at."""
    rules = [rule for path in POLICIES for rule in read_policy_file(path).rules.values()]
    assert {type(rule) for rule in rules} >= set(REGISTRY.values())


def test_equal_bytes_pass() -> None:
    """Engines that made the same bytes decide alike."""
    compare([b"a", b"b"], [b"a", b"b"])


@pytest.mark.parametrize(
    ("interpreted", "compiled", "told"),
    [
        ([b"a", b"b"], [b"a", b"c"], "line 2:\ninterpreted: b\ncompiled:    c"),
        ([b"a", b"b"], [b"a"], "line 2:\ninterpreted: b\ncompiled:    nothing"),
        ([b"a"], [b"a", b"\xff"], "line 2:\ninterpreted: nothing\ncompiled:    \\xff"),
        ([], [], "nothing to compare"),
    ],
)
def test_a_difference_is_named(interpreted: list[bytes], compiled: list[bytes], told: str) -> None:
    """The build fails with the first line in which both part, and when there was nothing to compare."""
    with pytest.raises(SystemExit) as refused:
        compare(interpreted, compiled)
    assert told in str(refused.value)


def test_the_version_says_which_engine_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever installed a compiled copy can see that it is the one that starts."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("spendfuse 0.")
    assert said.endswith(f", engine {'compiled' if COMPILED else 'interpreted'}\n")
