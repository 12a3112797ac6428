"""`python -m tests.bench.house [FOLDER]`: the measures of the source of a checkout, package by package.

It reads source text and imports none of it, so that a checkout of any age can be measured and compared with another.
"""

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "schemas": Path("schemas"),
    "models": Path("models"),
    "alerting": Path("alerting"),
    "streams": Path("streams"),
    "infra": Path("infra"),
    "sdk": Path("sdk/src/spendfuse"),
}
LONG_MODULE = 400
"""Lines; a module with more of them is counted."""
HEADINGS = ("package", "modules", "lines", "largest folder", "longest module", "longest function", "over 400", "cycles")

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A source file that is not empty: its place in the checkout, its importable name, its text."""

    path: Path
    name: str
    source: str

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())


def modules(checkout: Path, package: str) -> list[Module]:
    """The modules of a package; an empty `__init__.py` is none."""
    top = checkout / PACKAGES[package]
    found = []
    for path in sorted(top.rglob("*.py")):
        if source := path.read_text(encoding="utf-8"):
            parts = (top.name, *path.relative_to(top).with_suffix("").parts)
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(path.relative_to(checkout), name, source))
    return found


def longest_function(module: Module) -> tuple[int, str]:
    """Lines and name of the longest function; (0, "") where there is none."""
    lengths = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, node.name)
        for node in ast.walk(ast.parse(module.source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return max(lengths, default=(0, ""))


def imported(module: Module) -> Iterator[str]:
    """Full names of everything a module imports, within functions and under TYPE_CHECKING as well."""
    parts = module.name.split(".")
    package = parts if module.path.name == "__init__.py" else parts[:-1]
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_graph(everything: list[Module]) -> Graph:
    """Module -> the modules among these that it imports. A name within a module counts as its module."""
    names = {module.name for module in everything}
    graph: Graph = {}
    for module in everything:
        targets = (name if name in names else name.rpartition(".")[0] for name in imported(module))
        graph[module.name] = {target for target in targets if target in names}
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import one another, each sorted; a module that imports itself is one, too."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(graph: Graph, start: str) -> set[str]:
    """What a module imports, directly or through others; itself only if an import leads back to it."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def row(found: list[Module], groups: list[list[str]]) -> list[str]:
    """The cells of one package, without its name. `groups` are the import cycles of the whole checkout."""
    folder, files = max(Counter(module.path.parent for module in found).items(), key=lambda each: (each[1], each[0]))
    longest = max(found, key=lambda module: module.lines)
    (length, name), where = max((longest_function(module), module.path) for module in found)
    own = {module.name for module in found}
    return [
        str(len(found)),
        f"{sum(module.lines for module in found):,}",
        f"{files} {folder}",
        f"{longest.lines} {longest.path}",
        f"{length} {name} ({where.name})",
        str(sum(module.lines > LONG_MODULE for module in found)),
        str(sum(bool(own.intersection(group)) for group in groups)),
    ]


def measure(checkout: Path) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the table, headings first, and the import cycles."""
    by_package = {package: modules(checkout, package) for package in PACKAGES}
    groups = cycles(import_graph([module for found in by_package.values() for module in found]))
    rows = [[package, *row(found, groups)] for package, found in by_package.items() if found]
    return [list(HEADINGS), *rows], groups


def main(arguments: list[str] | None = None) -> int:
    """Print the table and every import cycle; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.house", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="a checkout; this one by default")
    checkout = parser.parse_args(arguments).folder
    table, groups = measure(checkout)
    if len(table) == 1:
        print(f"{checkout} holds none of {', '.join(PACKAGES)}: name the top folder of a checkout", file=sys.stderr)
        return 2
    widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    for group in groups:
        print("import cycle:", ", ".join(group))
    return 0


if __name__ == "__main__":
    sys.exit(main())
