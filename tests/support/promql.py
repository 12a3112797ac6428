"""What a PromQL expression looks at, by a real parser: metrics, and the labels that it selects or groups by."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import promql_parser
from prometheus_client import Counter, Histogram

from tests.support.deploy import ROOT

OF_SCRAPES = {"job", "instance"}
OF_PROCESSES = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
"""Of the client library's own: there is no metric of ours behind them."""
DEFINITIONS: Final = sorted((ROOT / "streams").rglob("metrics.py"))
"""Each process has its metrics in such a module, in a class whose name says so."""


def exposed() -> dict[str, set[str]]:
    """Every sample that the processes offer, with its labels."""
    found: dict[str, set[str]] = {name: set() for name in OF_PROCESSES}
    for metric in (metric for process in _processes() for metric in vars(process).values()):
        if not hasattr(metric, "_labelnames"):
            continue
        name, labels = metric._name, set(metric._labelnames)
        match metric:
            case Counter():
                found[f"{name}_total"] = labels
            case Histogram():
                found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
            case _:
                found[name] = labels
    return found


def _processes() -> Iterator[object]:
    """The metrics of each process."""
    for path in DEFINITIONS:
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, found in vars(module).items():
            if re.fullmatch(r"([A-Z]\w*)?Metrics", name) and found.__module__ == module.__name__:
                yield found()


def faults(expr: str, offered: Mapping[str, set[str]]) -> list[str]:
    """What it looks at that no process offers, in words. Raises `ValueError` where it is no PromQL."""
    found = []
    for node in _nodes(promql_parser.parse(expr)):
        if isinstance(node, promql_parser.VectorSelector):
            labels = offered.get(node.name or "")
            if labels is None:
                found.append(f"no process offers {node.name}")
                continue
            chosen = {matcher.name for matcher in node.matchers.matchers}
            found += [f"{node.name} has no label {label}" for label in chosen - labels - OF_SCRAPES]
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            below = {one.name for one in _nodes(node.expr) if isinstance(one, promql_parser.VectorSelector)}
            known = OF_SCRAPES.union(*(offered.get(name or "", set()) for name in below))
            found += [f"nothing below has the label {label}" for label in set(node.modifier.labels) - known]
    return found


def labels_of(expr: str) -> set[str]:
    """The labels that what it answers with has, as far as its outermost words say; everything of a bare metric."""
    node = promql_parser.parse(expr)
    while not isinstance(node, promql_parser.AggregateExpr | promql_parser.VectorSelector):
        node = next(_below(node))
    if isinstance(node, promql_parser.AggregateExpr):
        return set(node.modifier.labels) if node.modifier is not None else set()
    return exposed()[node.name or ""] | OF_SCRAPES


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for below in _below(node):
        yield from _nodes(below)


def _below(node: Any) -> Iterator[Any]:
    match node:
        case promql_parser.Call():
            yield from (each for each in node.args if not isinstance(each, promql_parser.NumberLiteral))
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield node.expr
        case promql_parser.SubqueryExpr():
            yield node.expr
        case promql_parser.BinaryExpr():
            yield node.lhs
            yield node.rhs
        case promql_parser.MatrixSelector():
            yield node.vector_selector
