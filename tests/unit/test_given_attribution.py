"""Whose spend it is where it does not say so: `[[attribution]]` in the policy."""

from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import PolicyChanged, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.errors import PolicyError
from tests.support.messages import MONDAY_MS, llm_call

BUDGET = """
version = "v1"
[[budget]]
name = "search-prod"
group_by = ["tenant_id", "owner", "environment"]
period = "day"
limit_usd = 10.0
at_limit = "pause"
mode = "enforce"
"""
TABLE = """
[[attribution]]
match = { "tags.api_key" = ["sk-search-*", "sk-find-1"] }
owner = "search"
environment = "prod"

[[attribution]]
match = { "tags.api_key" = "sk-*" }
owner = "somebody"
project = "the rest"

[[attribution]]
match = { owner = "or-key-*" }
owner = "search"

[[attribution]]
match = { owner = "search" }
owner = "never in a circle"
"""


def told(engine: Engine) -> list[Any]:
    return [effect.value for effect in engine.drain_effects()]


def spend(engine: Engine, usd: float, at: int = 0, **fields: Any) -> list[Any]:
    """A call of a run of acme; returns what is published for it."""
    engine.handle(UsageSeen(llm_call(MONDAY_MS + at, usd=usd, event_id=f"e{at}", **fields), MONDAY_MS + at))
    return told(engine)


def owners(published: list[Any]) -> list[tuple[str | None, dict[str, str]]]:
    """Owner and scope of each alert about a budget, without the tenant."""
    return [
        (one.owner, {name: value for name, value in one.scope.items() if name != "tenant_id"})
        for one in published
        if isinstance(one, Alert) and one.detector == "budget"
    ]


@pytest.mark.parametrize(
    ("fields", "owner", "environment"),
    [
        pytest.param({"tags": {"api_key": "sk-search-7"}}, "search", "prod", id="by a pattern"),
        pytest.param({"tags": {"api_key": "sk-find-1"}}, "search", "prod", id="by a name"),
        pytest.param({"tags": {"api_key": "sk-other"}}, "somebody", "unattributed", id="the first that matches"),
        pytest.param(
            {"tags": {"api_key": "sk-search-7"}, "owner": "ads"}, "ads", "prod", id="what it says goes before"
        ),
        pytest.param({"tags": {"api_key": "SK-search-7"}}, None, "unattributed", id="case counts"),
        pytest.param({"owner": "or-key-7"}, "search", "unattributed", id="another name"),
        pytest.param({}, None, "unattributed", id="nothing is known"),
    ],
)
def test_spend_that_says_nothing_belongs_to_its_key(
    fields: dict[str, Any], owner: str | None, environment: str
) -> None:
    """A budget of an owner holds what comes with the owner's keys; what a message says of itself goes before."""
    found = owners(spend(Engine(read_policy_toml(BUDGET + TABLE)), 11, run_id="r1", **fields))
    assert found[-1] == (owner, {"owner": owner or "unattributed", "environment": environment})


def test_alerts_about_a_run_say_whose_it_is_and_nothing_is_unattributed() -> None:
    """A run's alerts carry what its key gives it, and nobody is told that its spend has no owner."""
    policy = BUDGET + TABLE + '[[cap]]\nname = "run-cost"\nlimit_usd = 5.0\n'
    published = spend(Engine(read_policy_toml(policy)), 6, run_id="r1", workflow="w", tags={"api_key": "sk-search-7"})
    (alert,) = [one for one in published if isinstance(one, Alert) and one.detector == "cap"]
    expected = {"owner": "search", "environment": "prod", "project": "the rest", "workflow": "w"}
    assert (alert.owner, alert.attribution) == ("search", expected)
    assert not [one for one in published if isinstance(one, Alert) and one.detector == "data_quality"]


def test_a_run_that_spends_in_a_closed_scope_is_stopped_by_name() -> None:
    """Its guard cannot know whose it is, so that it is commanded itself at its next call."""
    engine = Engine(read_policy_toml(BUDGET + TABLE))
    spend(engine, 11, run_id="r1", tags={"api_key": "sk-search-7"})
    commands = [
        one for one in spend(engine, 1, 1000, run_id="r2", tags={"api_key": "sk-find-1"}) if isinstance(one, Command)
    ]
    assert [(one.action, one.target.type, one.target.id) for one in commands] == [("pause", "run", "r2")]


def test_a_changed_table_holds_from_the_next_message_on() -> None:
    """What was spent before stays where it was."""
    engine = Engine(read_policy_toml(BUDGET))
    spend(engine, 6, run_id="r1", tags={"api_key": "sk-search-7"})
    engine.handle(PolicyChanged(read_policy_toml(BUDGET.replace("v1", "v2") + TABLE), MONDAY_MS + 1000, at_once=True))
    told(engine)
    found = owners(spend(engine, 6, 2000, run_id="r1", tags={"api_key": "sk-search-7"}))
    assert found == [("search", {"owner": "search", "environment": "prod"})]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('match = {}\nowner = "a"', "match"),
        ('owner = "a"', "match"),
        ('match = { "tags.k" = "v" }', "say at least one of owner"),
        ('match = { model = "gpt*" }\nowner = "a"', "not model"),
        ('match = { tenant_id = "acme" }\nowner = "a"', "not tenant_id"),
        ('match = { "tags.k" = "v" }\nowner = ""', "owner"),
        ('match = { "tags.k" = "v" }\nteam = "a"', "team"),
    ],
)
def test_a_table_that_says_nothing_is_refused(table: str, words: str) -> None:
    """Each fault is named by its place."""
    with pytest.raises(PolicyError, match=words):
        read_policy_toml(BUDGET + "[[attribution]]\n" + table)
