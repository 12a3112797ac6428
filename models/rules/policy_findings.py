"""What is valid in a policy file, and is hardly meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.detectors.limits.budget import Budget
from models.rules.policy import Policy


def findings(policy: Policy, now_ms: int, known_rules: frozenset[str]) -> list[str]:
    """One sentence each, with the name of its place; none for a policy without oddities.

    Args:
        policy: as the file has it.
        now_ms: what ended before is over.
        known_rules: every name that the rule of an alert may have under this policy.
    """
    return [*_version(policy), *_ended(policy, now_ms), *_unknown_rules(policy, known_rules)]


def _version(policy: Policy) -> Iterator[str]:
    if policy.source and "version" not in policy.source:
        yield f"version: there is none, so that alerts call this policy {policy.version!r}; give it one"


def _ended(policy: Policy, now_ms: int) -> Iterator[str]:
    for rule in policy.rules.values():
        for exception in rule.settings.exceptions if isinstance(rule, Budget) else ():
            if exception.until_ms <= now_ms:
                yield f"budget {rule.rule}: the exception of {exception.scope!r} ended {exception.until}: take it out"
    for number, window in enumerate(policy.routing.quiet.planned):
        if window.until_ms <= now_ms:
            yield f"quiet.planned[{number}]: it ended {window.until}: take it out"
        elif window.until_ms <= window.start_ms:
            yield f"quiet.planned[{number}]: it ends before it begins, so that it mutes nothing"


def _unknown_rules(policy: Policy, known: frozenset[str]) -> Iterator[str]:
    for place, matcher in _matchers(policy.source):
        named = matcher.get("rule", [])
        for name in [named] if isinstance(named, str) else named:
            if name not in known:
                yield f"{place}.rule: no rule is called {name!r}, so that nothing matches; there are {_all(known)}"


def _all(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _matchers(tables: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every label matcher of the routing tables, with its place."""
    pending: list[tuple[str, Any]] = [(name, tables.get(name)) for name in ("route", "inhibit", "quiet")]
    while pending:
        place, value = pending.pop(0)
        if isinstance(value, list):
            pending += [(f"{place}[{number}]", each) for number, each in enumerate(value)]
        elif isinstance(value, Mapping):
            for name, each in value.items():
                if name in ("match", "source", "target") and isinstance(each, Mapping):
                    yield f"{place}.{name}", each
                else:
                    pending.append((f"{place}.{name}", each))
