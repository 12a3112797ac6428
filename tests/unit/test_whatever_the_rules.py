"""What must hold of every alert and command, and of memory, whatever the rules and whatever happens."""

import json
import math
from collections.abc import Iterable
from typing import Any

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.rows import read_fields
from models.stimuli import OperatorSeen, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command
from tests.support import messages
from tests.support.histories import Case, Changelog, Make, each_case
from tests.support.messages import DAY_MS, MINUTE_MS, MONDAY_MS


@each_case
def test_input_is_untouched(make: Make) -> None:
    """Messages and orders belong to whoever sent them."""
    case = make()
    sent = [one.message for one in case.stimuli if isinstance(one, UsageSeen | OperatorSeen)]
    before = [encode(message) for message in sent]
    Case(case.policy, case.stimuli).straight()
    assert before == [encode(message) for message in sent]


@each_case
def test_numbers_are_numbers(make: Make) -> None:
    """No effect carries NaN, infinity, or a null in their place."""
    for line in make().straight():
        body = json.loads(line.split(b"|", 3)[3])
        assert all(math.isfinite(value) for value in _numbers(body)), line
        assert body.get("value", 0) is not None, line


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _is_by_operator(key: bytes, value: bytes) -> bool:
    """Whether a row is a command that an operator gave."""
    return bool(json.loads(key)[0] == "command" and read_fields(value)[4][-1] == "operator")


@each_case
def test_memory_is_bounded(make: Make) -> None:
    """A hundred idle days later only what is meant to last is left: scopes, histories, what runs usually cost, and
    what a person has killed as a whole without an end.
    """
    case = make()
    engine = Engine(case.policy)
    changelog = Changelog()
    for stimulus in case.stimuli:
        engine.handle(stimulus)
    changelog.take(engine.drain_rows())
    end_ms = max(stimulus.append_ms for stimulus in case.stimuli if isinstance(stimulus, UsageSeen))
    engine.handle(Ticked(end_ms + 100 * DAY_MS))
    changelog.take(engine.drain_rows())
    kinds = {json.loads(key)[0] for key, value in changelog.rows.items() if not _is_by_operator(key, value)}
    assert kinds <= {"scope", "history", "cohort", "model_cohort", "tenant", "seen", "policy", "unsent"}, kinds
    assert engine.digest == changelog.digest()


def test_first_hour_of_a_stranger_is_silent() -> None:
    """With the default policy nobody hears of a tenant of which nothing is known yet, unless it spends much at once."""
    engine = Engine(read_policy_toml(""))
    for minute in range(60):
        at_ms = MONDAY_MS + minute * MINUTE_MS
        for run in range(5):
            call = messages.llm_call(
                at_ms,
                run_id=f"run-{run}",
                usd=0.005 * (1 + minute * run),
                prompt_hash=f"{minute}",
                workflow="docs",
                owner="ana",
            )
            engine.handle(UsageSeen(call, at_ms))
    assert not [effect for effect in engine.drain_effects() if effect.topic not in ("rollups.v1", "runs.v1")]


class Story:
    """What somebody who reads every alert and command in order knows; it fails at what makes no sense to them."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._open_incidents: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._standing: dict[str, Command] = {}

    def read(self, value: Any, key: str, signer: str | None, cause: Stimulus) -> None:
        """The next effect."""
        if isinstance(value, Alert):
            self._alert(value)
        elif isinstance(value, Command):
            self._command(value, key, signer, cause)

    def _alert(self, alert: Alert) -> None:
        assert alert.alert_id not in self._told, alert
        self._told.add(alert.alert_id)
        assert (alert.state == "open") == (alert.incident_id not in self._open_incidents), alert
        self._open_incidents.add(alert.incident_id)
        if alert.state == "resolved":
            self._open_incidents.remove(alert.incident_id)

    def _command(self, command: Command, key: str, signer: str | None, cause: Stimulus) -> None:
        assert command.seq > self._numbers.get(key, 0), command
        self._numbers[key] = command.seq
        assert command.expires_ms > command.issued_ms, command
        standing = self._standing.get(key)
        assert signer in ("engine", "operator"), command
        if signer == "operator":
            assert command.action in ("resume", "kill"), command
            assert command.rule == "operator" or command.action == "resume", command
        elif command.action == "resume":
            assert standing is not None, command
            assert standing.action in ("pause", "downgrade"), f"nothing but a person lifts a kill: {command}"
        self._standing[key] = command


@each_case
def test_alerts_and_commands_tell_a_story(make: Make) -> None:
    """Alert ids are unique, incidents open before they end, command numbers rise, only operators lift a kill."""
    case = make()
    engine = Engine(case.policy)
    story = Story()
    for stimulus in case.stimuli:
        engine.handle(stimulus)
        for effect in engine.drain_effects():
            story.read(effect.value, effect.key, effect.signer, stimulus)
