"""A proposal as a difference between two policy files. Nothing is written."""

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from models.detectors import REGISTRY
from models.rules.policy import Policy, read_policy_toml
from schemas.errors import PolicyError
from streams.tools.tune.variants import Variant


def diff(name: str, text: str, policy: Policy, proposals: Iterable[Variant]) -> list[str]:
    """The lines of a unified diff of a policy file, by which its rules get the values proposed."""
    changed = text
    for variant in proposals:
        changed = _changed(changed, policy, variant)
    before, after = text.splitlines(), changed.splitlines()
    return list(difflib.unified_diff(before, after, name, f"{name}, proposed", lineterm="", n=2))


def _changed(text: str, policy: Policy, variant: Variant) -> str:
    """The file with one setting of one rule replaced or added; a rule that it does not name gets a table."""
    lines = text.splitlines()
    tables = _tables(policy, variant.rule)
    said = f"{variant.setting} = {toml(variant.value)}"
    for start, end in _blocks(lines, tables):
        block = lines[start:end]
        if not any(re.fullmatch(rf"\s*name\s*=\s*([\"']){re.escape(variant.rule)}\1\s*(#.*)?", line) for line in block):
            continue
        found = [at for at in range(start, end) if re.match(rf"\s*{variant.setting}\s*=", lines[at])]
        if found:
            comment = re.search(r"\s+#.*$", lines[found[0]])
            lines[found[0]] = said + (comment[0] if comment else "")
        else:
            last = max(at for at in range(start, end) if lines[at].strip())
            lines.insert(last + 1, said)
        return _checked("\n".join(lines), variant) or _added(text, tables, said, variant)
    return _added(text, tables, said, variant)


def _added(text: str, tables: tuple[str, ...], said: str, variant: Variant) -> str:
    """The file with a table for a rule that is in force by default."""
    keeps = "" if read_policy_toml(text).header.include_defaults else "include_defaults = true\n"
    return f'{keeps}{text.rstrip()}\n\n[[{tables[0]}]]\nname = "{variant.rule}"\n{said}\n'.lstrip("\n")


def _checked(text: str, variant: Variant) -> str | None:
    """The text, if it says what is meant: a table may be written in ways that lines do not show."""
    try:
        rule = read_policy_toml(text).rules.get(variant.rule)
    except PolicyError:
        return None
    return text if rule is not None and getattr(rule.settings, variant.setting) == variant.value else None


def _tables(policy: Policy, rule: str) -> tuple[str, ...]:
    """The names that the rule's table may have."""
    detector = type(policy.rules[rule])
    return tuple(table for table, one in REGISTRY.items() if one is detector)


def _blocks(lines: list[str], tables: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the tables of these names begin and end."""
    heads = [at for at, line in enumerate(lines) if re.match(r"\s*\[", line)]
    ends = [*heads[1:], len(lines)]
    pattern = rf"\s*\[\[?\s*({'|'.join(map(re.escape, tables))})\s*\]?\]\s*(#.*)?"
    return [(start, end) for start, end in zip(heads, ends, strict=False) if re.fullmatch(pattern, lines[start])]


def toml(value: Any) -> str:
    """A setting's value as the file has it.

    >>> toml(Decimal("1E+1")), toml(6), toml(7.5)
    ('10', '6', '7.5')
    """
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
