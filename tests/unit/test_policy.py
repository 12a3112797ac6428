"""The policy file: the contract's example as written, all faults at once, documented defaults, and the way to the wire
and back.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.detectors import REGISTRY
from models.rules.policy import Policy, default_policy, read_policy, read_policy_json, read_policy_toml
from schemas.errors import PolicyError

CONTRACT = """
version = "2026-11-22"
timezone = "UTC"

[[budget]]
name = "tenant-hourly"
group_by = ["tenant_id"]            # one budget per distinct value
match = { environment = "prod" }    # optional; a value or a list
period = "hour"                     # hour | day | week | month, in `timezone`, `week` starts Monday
limit_usd = 25.0
thresholds = [0.5, 0.8, 1.0]
at_limit = "pause"                  # alert | pause | kill | downgrade, for the runs spending in that scope
mode = "enforce"
overrides = { acme = 100.0 }
exceptions = [{ scope = "acme", limit_usd = 300.0, until = 2026-12-01T00:00:00Z, why = "launch week", who = "ana" }]

[[cap]]
name = "run-cost"
per = "run"                         # run | session | run_tree
limit_usd = 5.0                     # also: max_calls, max_tool_calls, max_retries, max_duration_s, max_premium_calls
thresholds = [0.5, 0.8, 1.0]
at_limit = "kill"
mode = "enforce"

[[spend_anomaly]]
name = "hourly-5x"
group_by = ["tenant_id"]
multiplier = 5.0
baseline_days = 7
min_usd = 1.0
min_active_hours = 12
severity = "critical"
"""
ALWAYS_ON = {"stop-rule", "spending-after-kill", "unpriced", "data-quality"}
DEMO = Path(__file__).parents[2] / "infra" / "demo" / "policy.toml"


def faults(text: str) -> list[str]:
    """What is wrong with a policy file."""
    with pytest.raises(PolicyError) as raised:
        read_policy_toml(text)
    return raised.value.faults


def described(policy: Policy) -> dict[str, Any]:
    """Every setting of every rule."""
    return {name: (type(rule), rule.settings) for name, rule in policy.rules.items()} | {"header": policy.header}


def test_the_contract_s_example_holds_as_written() -> None:
    """Names, values and money are what the file says."""
    policy = read_policy_toml(CONTRACT)
    assert policy.version == "2026-11-22"
    assert policy.rules.keys() == {"tenant-hourly", "run-cost", "hourly-5x"} | ALWAYS_ON
    budget: Any = policy.rules["tenant-hourly"].settings
    assert (budget.limit_usd, budget.overrides, budget.match) == (25, {"acme": 100}, {"environment": "prod"})
    assert (budget.exceptions[0].until_ms, budget.exceptions[0].limit_usd) == (1_796_083_200_000, 300)
    assert (budget.period, budget.at_limit, budget.mode, budget.thresholds) == (
        "hour",
        "pause",
        "enforce",
        [0.5, 0.8, 1],
    )
    anomaly: Any = policy.rules["hourly-5x"].settings
    assert (anomaly.multiplier, anomaly.min_usd, anomaly.severity) == (5, 1, "critical")


NEED_A_LIMIT = {"model_mix", "budget", "cap", "no_accepted_output", "budget_without_output"}


def test_an_empty_file_means_the_documented_defaults() -> None:
    """Every detector's default rules, and nothing that limits money nobody has set a limit on."""
    policy = default_policy()
    expected = {settings["name"] for detector in REGISTRY.values() for settings in detector.defaults}
    assert policy.rules.keys() == expected
    assert {rule.name for rule in policy.rules.values()} == {d.name for d in REGISTRY.values()} - NEED_A_LIMIT
    assert described(read_policy_toml("")) == described(policy)
    assert described(read_policy_toml('version = "mine"')).keys() == described(policy).keys()


def test_a_file_with_rules_means_these_and_those_that_guard_our_own_promises() -> None:
    """A rule that is not written is not in force, unless the file asks for the defaults as well."""
    rule = '[[cap]]\nname = "run-cost"\nlimit_usd = 5'
    assert read_policy_toml(rule).rules.keys() == {"run-cost"} | ALWAYS_ON
    both = read_policy_toml("include_defaults = true\n" + rule).rules.keys()
    assert both == {"run-cost"} | default_policy().rules.keys()
    own = read_policy_toml('[[unpriced]]\nname = "mine"\nmin_calls = 1').rules
    assert own.keys() == {"mine"} | ALWAYS_ON - {"unpriced"}


@pytest.mark.parametrize("text", [CONTRACT, "", DEMO.read_text(encoding="utf-8")], ids=["contract", "empty", "demo"])
def test_the_wire_carries_the_same_policy(text: str) -> None:
    """What is published as JSON and read back is the same policy, money to the last digit."""
    policy = read_policy_toml(text)
    back = read_policy_json(policy.to_json())
    assert described(back) == described(policy)
    assert back.to_json() == policy.to_json()
    assert back.stamp == policy.stamp


def test_money_keeps_its_last_digit() -> None:
    """A limit of a tenth of a cent more is that, on the way there and back."""
    text = '[[cap]]\nname = "c"\nlimit_usd = 0.100000001'
    for policy in (read_policy_toml(text), read_policy_json(read_policy_toml(text).to_json())):
        settings: Any = policy.rules["c"].settings
        assert settings.limit_usd == Decimal("0.100000001")


def test_all_faults_are_told_together_each_with_its_place() -> None:
    """One reading is enough to repair a file."""
    found = faults(
        """
        timezone = "Mars/Olympus"
        misspelt = 1
        [[budget]]
        name = "b"
        period = "fortnight"
        limit_usd = -1
        [[budget]]
        name = "twice"
        period = "day"
        limit_usd = 1
        thresholds = [0.8, 0.5]
        [[budget]]
        name = "split"
        period = "day"
        limit_usd = 1
        group_by = ["workflow", "workflow"]
        [[budget]]
        name = "company"
        period = "day"
        limit_usd = 1
        group_by = ["workflow"]
        at_limit = "kill"
        [[cap]]
        name = "twice"
        limit_usd = 1
        [[cap]]
        name = "no-limit"
        [[repeat]]
        name = "r"
        notice_at = 5
        page_at = 3
        colour = "red"
        """
    )
    places = [
        "timezone:", "misspelt: there is no such setting", 'budget[0] "b".period:', 'budget[0] "b".limit_usd:',
        'budget[1] "twice".thresholds: thresholds must rise',
        'budget[2] "split".group_by: a dimension is named twice',
        'budget[3] "company": across tenants nobody is killed',
        'cap[1] "no-limit": a cap needs limit_usd', 'repeat[0] "r".colour: there is no such setting',
    ]  # fmt: skip
    missing = [place for place in places if not any(fault.startswith(place) for fault in found)]
    assert not missing, found


def test_two_rules_of_one_name_are_refused() -> None:
    """Alerts could not tell them apart, in whatever tables they stand."""
    one = '[[cap]]\nname = "same"\nlimit_usd = 1\n'
    assert faults(one + one.replace("cap", "budget") + 'period = "day"\n') == [
        "'same' names two rules; alerts could not tell them apart"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "budget = 5",
        'budget = "all of it"',
        "budget = [1, 2]",
        "[[budget]]",
        'cap = { name = "c", limit_usd = nan }',
        'cap = { name = "c", limit_usd = inf }',
        'cap = { name = "c", limit_usd = "five" }',
        'cap = { name = "c", limit_usd = 1e300 }',
        'cap = { name = "c", limit_usd = 1, thresholds = [nan] }',
        'cap = { name = "c", limit_usd = 1, thresholds = [] }',
        'cap = { name = "c", limit_usd = 1, thresholds = [0.0, 1.0] }',
        'cap = { name = "c", max_calls = 1.5 }',
        'cap = { name = "c", max_calls = -1 }',
        'cap = { name = "c", limit_usd = 1, mode = "dry" }',
        'cap = { name = "c", limit_usd = 1, match = { colour = "red" } }',
        'cap = { name = "", limit_usd = 1 }',
        'cap = { name = "a b/c", limit_usd = 1 }',
        'spend_anomaly = { name = "a", multiplier = nan }',
        'spend_anomaly = { name = "a", multiplier = 1.0 }',
        'session_outlier = { name = "o", multiplier = nan }',
        'budget = { name = "b", period = "day", limit_usd = 1, exceptions = [{ scope = "a", limit_usd = 2 }] }',
        'budget = { name = "b", period = "day", limit_usd = 1, group_by = ["tenant_id", "tenant_id"] }',
        'timezone = "../../etc/passwd"',
        'timezone = "localtime"',
        'timezone = ""',
        "version = 3",
        "ack_deadline_seconds = 0",
        "[blast_radius]\nmax_share_of_live_runs = nan",
        "not toml at all",
        "a = " + "[" * 5000,
    ],
)
def test_hostile_values_are_faults_and_nothing_else(text: str) -> None:
    """Whatever stands in the file, the answer is a list of faults: no crash, and no limit that was not meant."""
    assert faults(text)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"5", b"nul", b"\xff\xfe", b'{"budget": [{"limit_usd": NaN}]}', b"[" * 100_000, b'{"cap": 1}']
)
def test_hostile_bytes_are_faults_and_nothing_else(data: bytes) -> None:
    """The same holds for what comes over the topic."""
    with pytest.raises(PolicyError):
        read_policy_json(data)


def test_every_table_can_be_written_with_its_defaults() -> None:
    """Each registered table takes a rule of nothing but a name, or says what it lacks."""
    needs: dict[str, dict[str, object]] = {
        "budget": {"period": "day", "limit_usd": 1},
        "cap": {"limit_usd": 1},
        "no_accepted_output": {"limit_usd": 1},
        "budget_without_output": {"period": "day", "limit_usd": 1},
    }
    for table, detector in REGISTRY.items():
        policy = read_policy({table: [{"name": "mine", **needs.get(table, {})}]})
        assert isinstance(policy.rules["mine"], detector)
        assert json.loads(policy.to_json())[table]


def test_times_of_day_written_as_toml_times_travel() -> None:
    """What a file holds without quotes is on policy.v1 as text, and means the same."""
    policy = read_policy_toml("[quiet.office_hours]\nfrom = 09:00:00\nto = 18:00:00\n")
    assert read_policy_json(policy.to_json()).routing == policy.routing
