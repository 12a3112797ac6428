"""Reads a file of Prometheus rules as far as ours goes: one form of YAML, and an error for every line of another.

So that the file says the same to this reader and to any other, a plain value must not hold what YAML reads otherwise.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[2] / "infra" / "alerts" / "spendfuse.rules.yml"
FIELDS = ("alert", "expr", "for", "severity", "summary", "runbook")
_NESTS = {"groups:", "rules:", "labels:", "annotations:"}
_ITEM = re.compile(r"(?:- )?(\w+): (.+)")
_NOT_PLAIN = re.compile(r": | #|^[\s\"'&*!|>%@`{\[\],#?:-]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One alerting rule."""

    alert: str
    expr: str
    severity: str
    summary: str
    runbook: str
    lasts: str = "0s"
    """Its `for`."""

    @property
    def metrics(self) -> set[str]:
        """Names of what it looks at."""
        return set(re.findall(r"\bspendfuse_\w+", self.expr))

    @property
    def labels(self) -> set[str]:
        """Labels that it selects or groups by."""
        selected = re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)\s*\"", self.expr)
        grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", self.expr)
        return {*selected, *(name.strip() for names in grouped for name in names.split(","))}

    @property
    def told(self) -> set[str]:
        """Labels that its summary names."""
        return set(re.findall(r"\$labels\.(\w+)", self.summary))


def read_rules(text: str) -> list[Rule]:
    """All rules, in their order.

    Raises:
        ValueError: a line is not of the form, a field is missing or there twice.
    """
    rules: list[dict[str, str]] = []
    for number, name, value in _pairs(text):
        if name == "name":
            continue
        if name == "alert":
            rules.append({})
        if not rules or name not in FIELDS or name in rules[-1]:
            raise ValueError(f"line {number}: {name} has no place here")
        rules[-1][name] = value
    for rule in rules:
        if missing := set(FIELDS) - {"for"} - rule.keys():
            raise ValueError(f"{rule.get('alert')} has no {', '.join(sorted(missing))}")
    return [Rule(**{"lasts" if name == "for" else name: value for name, value in rule.items()}) for rule in rules]


def _pairs(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and value of each `name: value`; a block's lines are joined."""
    lines = list(enumerate(text.splitlines(), 1))
    while lines:
        number, line = lines.pop(0)
        if not line.strip() or line.lstrip().startswith("#") or line.strip() in _NESTS:
            continue
        found = _ITEM.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"line {number} is not `name: value`: {line}")
        name, value = found.groups()
        if value == "|-":
            block = []
            while lines and _indent(lines[0][1]) > _indent(line):
                block.append(lines.pop(0)[1].strip())
            value = " ".join(block)
        elif value.startswith('"'):
            if not re.fullmatch(r'"[^"\\]*"', value):
                raise ValueError(f"line {number}: quotes and backslashes do not belong in a text")
            value = value[1:-1]
        elif _NOT_PLAIN.search(value):
            raise ValueError(f"line {number}: YAML may read this otherwise; put it in quotes: {value}")
        yield number, name, value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
