"""Which policies are tried: each rule's main settings, one at a time, by the steps that its settings name."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError

from models.detectors.base import Detector
from models.rules.policy import Policy


class Variant(NamedTuple):
    """A policy that differs from another in one setting of one rule."""

    rule: str
    setting: str
    value: Any
    was: Any
    policy: Policy

    @property
    def change(self) -> float:
        """By how many times the setting was changed, up or down."""
        times = float(self.value) / float(self.was)
        return max(times, 1 / times)


def variants(policy: Policy, rule_name: str | None = None) -> list[Variant]:
    """What is to be tried of every rule, or of one. What its settings do not allow is left out."""
    rules = [rule for rule in policy.rules.values() if rule_name in (None, rule.rule)]
    return [variant for rule in rules for variant in _of(policy, rule)]


def enforced(policy: Policy) -> Policy:
    """The policy as if every rule that alerts were to enforce: what would it have stopped?"""
    found = policy
    for rule in policy.rules.values():
        if rule.settings.mode == "alert":
            found = _with(found, rule, mode="enforce")
    return found


def _of(policy: Policy, rule: Detector[Any]) -> Iterator[Variant]:
    for setting, steps in rule.settings.steps.items():
        was = getattr(rule.settings, setting)
        tried = {was}
        for step in steps if was else ():
            value = _stepped(was, step)
            if not value or value in tried:
                continue
            tried.add(value)
            try:
                yield Variant(rule.rule, setting, value, was, _with(policy, rule, **{setting: value}))
            except ValidationError:
                continue


def _stepped(was: Any, step: float) -> Any:
    """A setting's value so many times over, as round as its type."""
    if isinstance(was, Decimal):
        return (was * Decimal(str(step))).normalize()
    return round(was * step) if isinstance(was, int) else round(was * step, 3)


def _with(policy: Policy, rule: Detector[Any], **changes: Any) -> Policy:
    """The policy with other settings of one rule. Raises `ValidationError`."""
    settings = type(rule.settings).model_validate({**rule.settings.model_dump(by_alias=True), **changes})
    other = type(rule)(settings)
    rules = [other if one.rule == rule.rule else one for one in policy.rules.values()]
    return Policy(policy.header, rules, policy.source, policy.routing)
