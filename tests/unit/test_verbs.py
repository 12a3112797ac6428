"""Orders on the command line: what is typed, and what is refused before anything is sent."""

import re
import shlex
from typing import Any

import pytest

from models.rules.policy import read_policy_toml
from schemas.codec import decode_operator, encode
from schemas.control import Target
from schemas.errors import SettingsError
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume, Silence
from streams.__main__ import main
from streams.settings import read_settings
from streams.tools.orders.exception import check_exception
from tests.support.words import order

NOW_MS = 1_795_392_000_000
HOUR_MS = 3_600_000
DECEMBER_MS = 1_796_083_200_000
"""2026-12-01T00:00Z, eight days after `NOW_MS`."""
WHY = ' --tenant acme --why "load test"'


def typed(words: str, operator_name: str | None = "ana") -> OperatorMessage:
    return order(words + WHY, operator_name, NOW_MS)


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ("silence --match rule=run-cost --for 2h", Silence,
         {"match": {"rule": "run-cost"}, "until_ms": NOW_MS + 2 * HOUR_MS}),
        ("silence --match rule=a,owner=ana --match tags.team=x,y --until 2026-12-01T00:00Z", Silence,
         {"match": {"rule": "a", "owner": "ana", "tags.team": "x,y"}, "until_ms": DECEMBER_MS}),
        ("silence --match 'rule=a, severity=warning' --for 30d", Silence,
         {"match": {"rule": "a", "severity": "warning"}, "until_ms": NOW_MS + 720 * HOUR_MS}),
        ("silence --all --until 2026-12-01T01:00+01:00", Silence, {"match": {}, "until_ms": DECEMBER_MS}),
        ("snooze i1", Silence, {"match": {"incident_id": "i1"}, "until_ms": NOW_MS + HOUR_MS}),
        ("snooze i1 --for 90m", Silence, {"until_ms": NOW_MS + 90 * 60_000}),
        ("snooze i1 --until 2026-12-01T00:00Z", Silence, {"until_ms": DECEMBER_MS}),
        ("ack i1", Acknowledge, {"incident_id": "i1"}),
        ("exception --rule hourly --limit-usd 300.50 --for 1w", LimitException,
         {"rule": "hourly", "scope": "acme", "limit_nanousd": 300_500_000_000, "until_ms": NOW_MS + 168 * HOUR_MS}),
        ("exception --rule hourly --scope acme/docs --limit-usd 0 --for 1d", LimitException,
         {"scope": "acme/docs", "limit_nanousd": 0}),
        ("resume run r1", Resume, {"target": Target("run", "r1")}),
        ("resume run_tree r1", Resume, {"target": Target("run_tree", "r1")}),
        ("resume --run r1", Resume, {"target": Target("run", "r1"), "limit_nanousd": None, "until_ms": None}),
        ("resume --session s1 --limit-usd 12", Resume,
         {"target": Target("session", "s1"), "limit_nanousd": 12 * 10**9}),
        ("resume run_tree r1 --limit-usd 0.5", Resume, {"limit_nanousd": 5 * 10**8}),
        ("resume --tree r1 --until 2026-12-01T00:00Z", Resume,
         {"target": Target("run_tree", "r1"), "until_ms": DECEMBER_MS}),
        ("resume --workflow w --for 2h", Resume, {"target": Target("workflow", "w"), "until_ms": NOW_MS + 2 * HOUR_MS}),
        ("resume --scope hourly/acme", Resume, {"target": Target("scope", "hourly/acme")}),
        ("resume scope hourly/acme", Resume, {"target": Target("scope", "hourly/acme")}),
        ("resume --all", Resume, {"target": Target("tenant", "acme")}),
        ("kill --run r1", Kill, {"target": Target("run", "r1"), "until_ms": None}),
        ("kill --session s1 --for 1w", Kill, {"target": Target("session", "s1"), "until_ms": NOW_MS + 168 * HOUR_MS}),
        ("kill --tree r1", Kill, {"target": Target("run_tree", "r1")}),
        ("kill --workflow docs --until 2026-12-01T00:00Z", Kill,
         {"target": Target("workflow", "docs"), "until_ms": DECEMBER_MS}),
        ("kill --all", Kill, {"target": Target("tenant", "acme")}),
        ("feedback i1 planned", Feedback, {"incident_id": "i1", "verdict": "planned"}),
    ],
)  # fmt: skip
def test_words_are_an_order(words: str, kind: type, says: dict[str, Any]) -> None:
    """Each verb makes the message that the readers of operator.v1 accept as it is."""
    found = typed(words)
    assert type(found) is kind
    assert {name: getattr(found, name) for name in says} == says
    assert (found.tenant_id, found.ts_ms, found.who, found.why) == ("acme", NOW_MS, "ana", "load test")
    assert decode_operator(encode(found)) == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("silence --for 2h", "--match label=value, or --all"),
        ("silence --all --match rule=a --for 2h", "--match label=value, or --all"),
        ("silence --match rul=a --for 2h", "there is no label 'rul'"),
        ("silence --match tags.=a --for 2h", "there is no label 'tags.'"),
        ("silence --match run-cost --for 2h", "write label=value"),
        ("silence --match severity=crit --for 2h", "use one of critical, error, warning, info"),
        ("silence --match rule=a --match rule=b --for 2h", "an alert has one rule"),
        ("silence --match tenant_id=globex --for 2h", "matches nothing"),
        ("silence --all --until 2026-11-22T00:00Z", "is past"),
        ("silence --all --until 2026-11-23T00:00Z", "is past"),
        ("silence --all --until 2026-12-24T00:00Z", "more than 30 days"),
        ("silence --all --for 31d", "more than 30 days"),
        ("silence --all --until 2026-12-01T00:00", "2026-12-01T00:00Z"),
        ("silence --all --until tomorrow", "write a time such as"),
        ("silence --all --for 2", "such as 90m or 2h"),
        ("silence --all --for 0h", "such as 90m or 2h"),
        ("silence --all --for -2h", "such as 90m or 2h"),
        ("silence --all --for ''", "such as 90m or 2h"),
        ("snooze ''", "INCIDENT is empty"),
        ("ack ''", "INCIDENT is empty"),
        ("snooze i1 --for 31d", "more than 30 days"),
        (f"ack {'i' * 129}", "length <= 128"),
        ("exception --rule a --limit-usd lots --for 1h", "not an amount in dollars"),
        ("exception --rule a --limit-usd -5 --for 1h", "must not be negative"),
        ("exception --rule a --limit-usd 2000000000 --for 1h", "limit_nanousd"),
        ("exception --rule a --limit-usd 5 --for 400d", "belongs in the policy"),
        ("resume run ''", "ID is empty"),
        ("resume", "say once what may go on"),
        ("resume run", "say once what may go on"),
        ("resume run r1 --session s1", "say once what may go on"),
        ("resume run --run r1", "say once what may go on"),
        ("resume --run ''", "--run is empty"),
        ("resume --run r1 --limit-usd lots", "not an amount in dollars"),
        ("resume --run r1 --limit-usd 2000000000", "limit_nanousd"),
        ("resume --workflow w --limit-usd 5", "the verb exception"),
        ("resume --scope hourly/acme --limit-usd 5", "the verb exception"),
        ("resume --all --limit-usd 5", "the verb exception"),
        ("resume --run r1 --until 2026-11-22T00:00Z", "is past"),
        ("kill", "--run ID, --session ID, --tree ID, --workflow ID, or --all"),
        ("kill --session ''", "--session is empty"),
        ("kill --run r1 --until 2026-11-22T00:00Z", "is past"),
        ("kill --all --for 400d", "more than 366 days"),
    ],
)
def test_what_would_not_mean_what_was_meant_is_refused(words: str, says: str) -> None:
    """A wrong word is exit 2 with a sentence that says what to write: nothing is sent that does nothing."""
    with pytest.raises(SettingsError) as caught:
        typed(words.replace("--for -2h", "--for=-2h").replace("--limit-usd -5", "--limit-usd=-5"))
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_same_words_at_the_same_time_are_the_same_order() -> None:
    """The id follows from what is ordered, by whom and when: a client that sends it again sends the same order."""
    first = typed("resume run r1")
    assert typed("resume run r1") == first
    others = [typed("resume run r2"), typed("resume run r1 --who bob"), order("resume run r1" + WHY, "ana", NOW_MS + 1)]
    assert len({first.message_id, *(other.message_id for other in others)}) == 4


def test_who_is_asked_for_where_nobody_knows() -> None:
    """`--who` goes before the settings, these before the login name, and without any of them the order is refused."""
    assert read_settings({"LOGNAME": "ana"}).operator_name == "ana"
    assert (
        read_settings({"USER": "ana", "SPENDFUSE_OPERATOR_NAME": "ana@acme.example"}).operator_name
        == "ana@acme.example"
    )
    assert typed("ack i1 --who bob").who == "bob"
    with pytest.raises(SettingsError, match="say --who"):
        typed("ack i1", None)


@pytest.mark.parametrize(
    "words",
    [
        "ack i1 --tenant acme",
        "ack i1 --why x",
        "resume tenant acme --tenant a --why x",
        "resume --run r --limit-usd 5 --for 1h --tenant a --why x",
        "resume --run r --session s --tenant a --why x",
        "kill --run r --all --tenant a --why x",
        "kill --scope s --tenant a --why x",
        "kill run r --tenant a --why x",
    ],
)
def test_what_is_missing_is_exit_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An order without a tenant or a reason, with two targets or terms, or one that cannot be named, is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(words))
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["ack i1 --who ana" + WHY, "orders"])
def test_no_key_is_exit_2(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key that signs orders nothing is written, and nothing is believed."""
    monkeypatch.delenv("SPENDFUSE_OPERATOR_KEY", raising=False)
    assert main(shlex.split(words)) == 2
    assert re.search("SPENDFUSE_OPERATOR_KEY is (not )?set", capsys.readouterr().err)


POLICY = """
[[budget]]
name = "hourly"
period = "hour"
limit_usd = 5
[[budget]]
name = "daily"
group_by = ["tenant_id", "workflow"]
period = "day"
limit_usd = 5
[[budget]]
name = "company"
group_by = []
period = "day"
limit_usd = 5
[[budget]]
name = "by-model"
group_by = ["model"]
period = "day"
limit_usd = 5
[[cap]]
name = "run-cost"
limit_usd = 5
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rule hourly", None),
        ("--rule daily --scope acme/docs", None),
        ("--rule daily --scope acme/a/b", None),
        ("--rule hourli", "its budgets: hourly, daily"),
        ("--rule company --tenant spendfuse/all-tenants", None),
        ("--rule by-model --tenant spendfuse/all-tenants --scope gpt-5", None),
        ("--rule by-model --tenant spendfuse/all-tenants", "scopes such as <model>"),
        ("--rule company", "is that of all tenants: --tenant spendfuse/all-tenants"),
        ("--rule by-model --scope gpt-5", "is that of all tenants: --tenant spendfuse/all-tenants"),
        ("--rule company --tenant spendfuse/all-tenants --scope gpt-5", "scopes such as spendfuse/all-tenants"),
        ("--rule hourly --tenant spendfuse/all-tenants", "is a tenant's own"),
        ("--rule run-cost", "no budget 'run-cost'"),
        ("--rule hourly --scope globex", "scopes such as acme"),
        ("--rule hourly --scope acme/docs", "scopes such as acme"),
        ("--rule daily", "scopes such as acme/<workflow>"),
        ("--rule daily --scope globex/docs", "scopes such as acme/<workflow>"),
        ("--rule daily --scope acme/", "scopes such as acme/<workflow>"),
    ],
)
def test_an_exception_must_be_to_something(words: str, says: str | None) -> None:
    """A budget that does not exist, or somebody else's scope, is refused instead of being raised in vain."""
    found = order(f"exception --limit-usd 30 --for 1h{WHY} {words}", "ana", NOW_MS)
    assert isinstance(found, LimitException)
    if says is None:
        check_exception(found, read_policy_toml(POLICY))
        return
    with pytest.raises(SettingsError) as caught:
        check_exception(found, read_policy_toml(POLICY))
    assert says in str(caught.value)
