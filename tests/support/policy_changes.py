"""Other policies: what people do to a policy while it is in force, one kind of change at a time."""

import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from models.rules.policy import Policy, read_policy_json
from schemas.errors import PolicyError

Tables = dict[str, Any]
"""A policy as policy.v1 carries it: JSON values, amounts in dollars as text or numbers."""
LIMITS = (
    "limit_usd", "max_calls", "max_tool_calls", "max_retries", "max_duration_s", "max_premium_calls", "min_usd",
    "without_history_usd",
)  # fmt: skip


def _rules(tables: Tables) -> list[Tables]:
    """Every rule's own table."""
    found: list[Tables] = []
    for value in tables.values():
        for row in value if isinstance(value, list) else [value]:
            if isinstance(row, dict) and "name" in row:
                found.append(row)
    return found


def _scaled(rule: Tables, factor: Decimal) -> None:
    for name in LIMITS:
        if name in rule:
            amount = Decimal(str(rule[name])) * factor
            rule[name] = str(amount) if name.endswith("_usd") else int(amount)
    for name in rule.get("overrides", {}):
        rule["overrides"][name] = str(Decimal(str(rule["overrides"][name])) * factor)


def _limits_raised(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        _scaled(rule, draw.choice((Decimal("1.3"), Decimal(3))))


def _limits_lowered(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        _scaled(rule, draw.choice((Decimal("0.8"), Decimal("0.3"), Decimal(0))))


def _groups_watched(tables: Tables, draw: Random) -> None:
    """Sessions and trees, perhaps for the first time."""
    for per in ("session", "run_tree"):
        _add(tables, "cap", {"name": f"new-{per}", "per": per, "limit_usd": str(draw.randrange(1, 30)), "max_calls": 30,
                             "at_limit": "kill", "mode": draw.choice(("alert", "enforce"))})  # fmt: skip


def _budget_added(tables: Tables, draw: Random) -> None:
    group_by = draw.choice((["tenant_id", "owner"], ["tenant_id"], ["tenant_id", "workflow", "owner"], ["owner"], []))
    period = draw.choice(("hour", "day", "week", "month"))
    at_limit = draw.choice(("pause", "kill" if "tenant_id" in group_by else "pause", "downgrade", "alert"))
    _add(tables, "budget", {"name": "new-budget", "group_by": group_by, "period": period, "at_limit": at_limit,
                            "limit_usd": str(draw.randrange(1, 50)), "mode": "enforce"})  # fmt: skip


def _spend_rule_added(tables: Tables, draw: Random) -> None:
    _add(tables, "spend_anomaly", {"name": "new-hourly", "group_by": ["tenant_id", "workflow"], "min_active_hours": 2,
                                   "min_history_hours": 2, "multiplier": "1.5", "min_usd": "0.1"})  # fmt: skip
    _add(tables, "session_outlier", {"name": "new-outlier", "per": draw.choice(("run", "session")), "min_runs": 5,
                                     "multiplier": "1.2", "min_usd": "0.1"})  # fmt: skip


def _add(tables: Tables, table: str, rule: Tables) -> None:
    others = tables.get(table, [])
    others = others if isinstance(others, list) else [others]
    tables[table] = [one for one in others if one.get("name") != rule["name"]] + [rule]


def _rules_removed(tables: Tables, draw: Random) -> None:
    """One of them, or all."""
    names = sorted({rule["name"] for rule in _rules(tables)})
    gone = set(names) if not names or draw.random() < 0.2 else {draw.choice(names)}
    for table, value in tables.items():
        if isinstance(value, list):
            tables[table] = [row for row in value if not isinstance(row, dict) or row.get("name") not in gone]
    for table in [name for name, value in tables.items() if isinstance(value, dict) and value.get("name") in gone]:
        del tables[table]


def _modes_changed(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        rule["mode"] = draw.choice(("shadow", "alert", "enforce"))


def _units_changed(tables: Tables, draw: Random) -> None:
    for cap in tables.get("cap", []):
        cap["per"] = draw.choice(("run", "session", "run_tree"))
    for outlier in tables.get("session_outlier", []):
        outlier["per"] = draw.choice(("run", "session"))


def _severities_changed(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        rule["severity"] = draw.choice(("critical", "error", "warning", "info"))


def _defaults_in_or_out(tables: Tables, draw: Random) -> None:
    tables["include_defaults"] = not tables.get("include_defaults", False)


def _timezone_changed(tables: Tables, draw: Random) -> None:
    zones = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Auckland")
    tables["timezone"] = draw.choice([zone for zone in zones if zone != tables.get("timezone", "UTC")])


def _prices_changed(tables: Tables, draw: Random) -> None:
    tables["price"] = [{"model": draw.choice(("house-model", "gpt-*", "*")), "input": "900", "output": "2000"}]
    tables["prefer_computed_price"] = draw.random() < 0.5
    tables["unpriced_usd_per_million_tokens"] = str(draw.randrange(1, 500))


def _premium_models_changed(tables: Tables, draw: Random) -> None:
    tables["premium_models"] = draw.choice(([], ["*"], ["gpt-4o"]))


def _matches_changed(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        rule["match"] = draw.choice(({}, {"workflow": ["docs", "chat"]}, {"owner": "ana"}, {"model": "gpt-4o"}))
        if "model" in rule["match"] and not any(rule is budget for budget in tables.get("budget", [])):
            rule["match"] = {}


def _thresholds_changed(tables: Tables, draw: Random) -> None:
    for rule in _rules(tables):
        if "thresholds" in rule or any(rule is one for one in (*tables.get("budget", []), *tables.get("cap", []))):
            rule["thresholds"] = draw.choice(([1.0], [0.2, 0.9, 1.5], [0.1, 0.5, 1.0, 2.0]))


def _what_follows_changed(tables: Tables, draw: Random) -> None:
    """What happens at the limit."""
    for table in ("budget", "cap"):
        for rule in tables.get(table, []):
            chosen = draw.choice(("alert", "pause", "kill", "downgrade"))
            is_across = "tenant_id" not in rule.get("group_by", ["tenant_id"])
            rule["at_limit"] = "pause" if is_across and chosen == "kill" else chosen


def _service_settings_changed(tables: Tables, draw: Random) -> None:
    tables["idle_run_minutes"] = draw.choice((5, 60, 600))
    tables["finished_run_minutes"] = draw.choice((0, 30))
    tables["remember_days"] = draw.choice((1, 7))
    tables["ack_deadline_seconds"] = draw.choice((1, 600))
    tables["remind"] = {"critical": draw.choice(([], [15], [90, 240])), "warning": [20]}
    tables["blast_radius"] = {"max_kills_per_minute": draw.choice((1, 60)), "always_allowed": draw.randrange(3)}


def _exceptions_changed(tables: Tables, draw: Random) -> None:
    until = f"2026-11-{draw.randrange(23, 26)}T{draw.randrange(24):02}:20:00Z"
    for rule in tables.get("budget", []):
        exception = {"scope": draw.choice(("acme", "tenant-0", "tenant-1")), "why": "a launch", "who": "ana"}
        rule["exceptions"] = [{**exception, "limit_usd": str(draw.randrange(1, 90)), "until": until}]


def _nothing_but_its_name(tables: Tables, draw: Random) -> None:
    """A policy that says the same under another version."""


CHANGES: dict[str, Callable[[Tables, Random], None]] = {
    "limits-raised": _limits_raised,
    "limits-lowered": _limits_lowered,
    "groups-watched": _groups_watched,
    "budget-added": _budget_added,
    "spend-rule-added": _spend_rule_added,
    "rules-removed": _rules_removed,
    "modes": _modes_changed,
    "units": _units_changed,
    "severities": _severities_changed,
    "defaults": _defaults_in_or_out,
    "timezone": _timezone_changed,
    "prices": _prices_changed,
    "premium-models": _premium_models_changed,
    "matches": _matches_changed,
    "thresholds": _thresholds_changed,
    "at-limit": _what_follows_changed,
    "service-settings": _service_settings_changed,
    "exceptions": _exceptions_changed,
    "version": _nothing_but_its_name,
}
"""Kind of change -> what it does to a policy's tables."""


def changed(policy: Policy, kind: str, draw: Random) -> Policy:
    """`policy` after a change of that kind, which depends on `draw`; its version names the kind."""
    tables = json.loads(policy.to_json())
    CHANGES[kind](tables, draw)
    tables["version"] = f"{kind}-{draw.randrange(10**6)}"
    try:
        return read_policy_json(json.dumps(tables).encode())
    except PolicyError as error:
        raise AssertionError(f"{kind} makes no policy of this one: {error}") from error


def copied(policy: Policy) -> Policy:
    """The same policy, read once more: another object that says the same."""
    return read_policy_json(policy.to_json())
