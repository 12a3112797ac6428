"""What an alert says beside its finding: whose spend it is, and which command stands."""

from collections.abc import Iterable
from typing import Any

import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import OperatorSeen, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.operator import OperatorMessage
from schemas.policy import Action
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.messages import HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS
from tests.support.replay import replay

NINE_MS = MONDAY_MS + 9 * HOUR_MS
CAP = '[[cap]]\nname = "cap"\nlimit_usd = 10\nthresholds = [0.5, 1.0]\n'
KILLS = CAP + 'at_limit = "kill"\nmode = "enforce"\n'
WHOSE = {"workflow": "docs", "owner": "ana", "environment": "prod", "user": "bob", "feature": "search", "tier": "paid"}

Happens = UsageMessage | OperatorMessage | Stimulus


def played(policy: str, *happens: Happens) -> list[Effect]:
    """What comes of messages that are appended when they happen, and of what else happens."""
    engine = Engine(read_policy_toml(policy))
    return [effect for each in happens for effect in replay(engine, [_stimulus(each)])]


def _stimulus(happens: Happens) -> Stimulus:
    if isinstance(happens, UsageMessage):
        return UsageSeen(happens, happens.ts_ms)
    return OperatorSeen(happens, happens.ts_ms) if isinstance(happens, OperatorMessage) else happens


def alerts(effects: Iterable[Effect]) -> list[Alert]:
    """The alerts among them."""
    return [effect.value for effect in effects if isinstance(effect.value, Alert)]


def call(second: int, usd: float, **fields: Any) -> UsageMessage:
    """A model call so many seconds after nine."""
    return messages.llm_call(NINE_MS + second * SECOND_MS, usd=usd, **fields)


def started(**fields: Any) -> UsageMessage:
    """A run introduces itself at nine."""
    return messages.run_started(NINE_MS, **fields)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([started(**WHOSE), call(1, 5)], WHOSE),
        ([call(1, 1, **WHOSE), call(2, 5, **WHOSE)], WHOSE),
        ([started(workflow="docs", agent="old"), call(1, 5, agent="new")], {"workflow": "docs", "agent": "new"}),
        ([started(tags={"team": "a"}, project="p"), call(1, 5, tags={"team": "b"})], {"project": "p"}),
        ([call(1, 5, workflow="unattributed", owner="")], {}),
        ([call(1, 5)], {}),
    ],
    ids=["from its start", "from its calls", "its own goes first", "no tags", "unattributed is not known", "nothing"],
)
def test_an_alert_about_a_run_says_what_is_known_of_it(log: list[UsageMessage], expected: dict[str, str]) -> None:
    """Every dimension that is known and none that is not, whether or not a rule tells them apart."""
    (alert,) = alerts(played(CAP, *log))
    assert alert.attribution == expected


def test_an_alert_about_a_session_says_whose_run_led_to_it() -> None:
    """The run whose call reached the limit, though others of the session spent as well."""
    log = [
        call(1, 3, run_id="r1", session_id="s", workflow="docs"),
        call(2, 3, run_id="r2", session_id="s", workflow="chat", user="bob"),
    ]
    (alert,) = alerts(played(CAP.replace("[[cap]]", '[[cap]]\nper = "session"'), *log))
    assert (alert.run_id, alert.attribution) == (None, {"workflow": "chat", "user": "bob"})


def test_an_alert_about_a_scope_says_no_more_than_the_scope() -> None:
    """Many spend there: the last one's workflow would be arbitrary."""
    policy = '[[budget]]\nname = "b"\nperiod = "hour"\nlimit_usd = 5\nthresholds = [1.0]\nat_limit = "pause"\n'
    (alert,) = alerts(played(policy + 'mode = "enforce"', started(**WHOSE), call(1, 5)))
    assert (alert.scope, alert.attribution, alert.command) == ({"tenant_id": "acme"}, {}, None)


def test_the_command_goes_before_the_alert_that_names_it() -> None:
    """Half the cap: no command. All of it: the kill leaves first, and the alert says that it stands."""
    effects = [each for each in played(KILLS, call(1, 5), call(2, 5)) if isinstance(each.value, Alert | Command)]
    told = [each.value.command if isinstance(each.value, Alert) else each.value for each in effects]
    assert isinstance(told[1], Command)
    assert (told[0], told[2]) == (None, "kill")
    assert told[1].incident_id == alerts(effects)[1].incident_id


ACK_LATE = Ticked(NINE_MS + 10 * MINUTE_MS)
REMINDED = Ticked(NINE_MS + HOUR_MS + MINUTE_MS)
FREED = messages.resume(NINE_MS + MINUTE_MS, "run", "run-1")
SESSION = CAP.replace("[[cap]]", '[[cap]]\nper = "session"').replace('"cap"', '"session-cap"') + (
    'at_limit = "kill"\nmode = "enforce"\n'
)
IDLE = "idle_run_minutes = 600\n"
HELD = "[blast_radius]\nalways_allowed = 0\nmax_share_of_live_runs = 0.01\n"


@pytest.mark.parametrize(
    ("policy", "happens", "expected"),
    [
        (CAP, [call(1, 10)], [("cap", "open", None)]),
        (KILLS.replace('"enforce"', '"shadow"'), [call(1, 10)], [("cap", "open", None)]),
        (KILLS.replace('"kill"', '"pause"'), [call(1, 10)], [("cap", "open", "pause")]),
        (KILLS, [messages.outcome(NINE_MS), call(1, 10)], [("cap", "open", "kill")]),
        (KILLS, [call(1, 1), messages.outcome(NINE_MS), call(2, 9)], [("cap", "open", None)]),
        (HELD + KILLS, [call(1, 10)], [("blast-radius", "open", None), ("cap", "open", None)]),
        (
            KILLS,
            [call(1, 10), messages.run_finished(NINE_MS + 2 * SECOND_MS, status="killed")],
            [("cap", "open", "kill"), ("cap", "resolved", "kill")],
        ),
        (
            KILLS,
            [call(1, 10), ACK_LATE],
            [("cap", "open", "kill"), ("spending-after-kill", "open", "kill")],
        ),
        (IDLE + KILLS, [call(1, 10), FREED, REMINDED], [("cap", "open", "kill"), ("cap", "resolved", None)]),
        (
            SESSION + CAP.replace("10", "20"),
            [call(1, 9, session_id="s"), call(2, 1, session_id="s")],
            [("session-cap", "open", None), ("cap", "open", None), ("session-cap", "escalated", "kill")],
        ),
        (
            SESSION + CAP.replace("10", "24"),
            [call(1, 10, session_id="s"), call(2, 2, session_id="s")],
            [("session-cap", "open", "kill"), ("cap", "open", "kill")],
        ),
    ],
    ids=[
        "alert mode", "shadow mode", "pause", "outcome of a stranger", "accepted", "held back", "finished",
        "unanswered", "released", "a session before its kill", "a run of a killed session",
    ],
)  # fmt: skip
def test_an_alert_says_which_command_stands(
    policy: str, happens: list[Happens], expected: list[tuple[str, str, Action | None]]
) -> None:
    """The command on its run, session or tree at the time of the alert; none that was held, lifted or never given."""
    told = [(alert.rule, alert.state, alert.command) for alert in alerts(played(policy, *happens))]
    assert told == expected
