"""The directions of imports, the purity of what decides, and the measures of size: held by machine.

Every check is a function from source text to faults, and each is shown to fail on a planted text.
"""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "models", "alerting", "streams", "infra")
PURE = ("schemas", "models", "alerting")
ALLOWED = {
    "schemas": {"schemas"},
    "models": {"schemas", "models"},
    "alerting": {"schemas", "alerting"},
    "streams": {"schemas", "models", "alerting", "streams", "infra"},
    "infra": {"schemas", "models", "infra", "streams", "spendfuse"},
}
OURS = {*PACKAGES, "tests", "sdk"}
IMPURE_MODULES = {
    "aiohttp", "aiokafka", "asyncio", "confluent_kafka", "faust", "http", "httpx", "kafka", "multiprocessing", "os",
    "pagerduty", "quixstreams", "random", "requests", "secrets", "select", "signal", "slack_sdk", "socket",
    "subprocess", "threading", "time", "urllib3", "uuid",
}  # fmt: skip
CLOCK_CALLS = {"now", "utcnow", "today"}
FORBIDDEN_NAMES = {"types", "utils", "helpers", "common", "manager", "misc"}
ALERTING_COMMAND = Path("alerting/__main__.py")
"""Gives `python -m alerting` its name; the process itself is in streams/."""
MOST_LINES_OF_A_FUNCTION = 70
MOST_LINES_OF_A_MODULE = 500


def modules(*packages: str) -> list[Path]:
    """The source files of these packages."""
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{'.' * node.level}{node.module or ''}"


def wrong_directions(package: str, source: str) -> list[str]:
    """Imports of our own packages that this package must not know, and relative ones, which hide their direction."""
    names = list(imports(source))
    return [name for name in names if name.startswith(".") or name.split(".")[0] in OURS - ALLOWED[package]]


def impurities(source: str) -> list[str]:
    """Modules that reach for a clock, chance or the world, and calls that ask for the time."""
    found = [name for name in imports(source) if name.split(".")[0] in IMPURE_MODULES or name == "urllib.request"]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS:
            found.append(f"line {node.lineno}: .{node.func.attr}()")
        if isinstance(node.func, ast.Name) and node.func.id in ("open", "input", "print"):
            found.append(f"line {node.lineno}: {node.func.id}()")
    return found


def long_functions(source: str) -> list[str]:
    """Functions that no longer fit on a screen."""
    return [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    ]


def is_long(source: str) -> bool:
    """Whether a module has become two."""
    return len(source.splitlines()) > MOST_LINES_OF_A_MODULE


def is_misnamed(path: Path) -> bool:
    """Whether a file or folder is named by its kind instead of its subject."""
    return bool({path.stem, *path.parts} & FORBIDDEN_NAMES)


def is_pure(path: Path) -> bool:
    """Whether the module must not touch the world: senders, readers of shipped files and entry points may."""
    inside = path.relative_to(ROOT)
    if inside.parts[0] == "alerting":
        return path.name not in SHELL_OF_ALERTING and inside.parts[1:] != ("receivers", "base.py")
    return inside.parts[0] == "models" and path.stem != "__main__"


SHELL_OF_ALERTING = {"__main__.py", "sender.py"}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """Imports go schemas <- models | alerting <- streams; models and alerting do not know each other."""
    inner = [path for path in modules(package) if path.relative_to(ROOT) != ALERTING_COMMAND]
    wrong = {path: found for path in inner if (found := wrong_directions(package, read(path)))}
    assert not wrong


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("schemas", "from models.engine import Engine"),
        ("models", "import alerting.routing"),
        ("models", "def f():\n    from streams import worker"),
        ("alerting", "from models import runs"),
        ("models", "from . import runs"),
        ("streams", "from tests.support import messages"),
    ],
)
def test_a_wrong_direction_is_seen(package: str, source: str) -> None:
    """The check sees imports inside functions and relative ones, too."""
    assert wrong_directions(package, source)


def test_what_decides_is_pure() -> None:
    """No clock, no chance, no I/O where it is decided what is wrong and who is told."""
    wrong = {path: found for path in modules(*PURE) if is_pure(path) and (found := impurities(read(path)))}
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import Random",
        "import os.path",
        "import urllib.request",
        "from confluent_kafka import Producer",
        "from datetime import datetime, UTC\nat = datetime.now(UTC)",
        "import datetime\nat = datetime.date.today()",
        "def f():\n    import threading",
        "text = open('policy.toml').read()",
    ],
)
def test_an_impurity_is_seen(source: str) -> None:
    """Each way to the world that is not allowed is caught."""
    assert impurities(source)


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 70 lines."""
    wrong = {path: found for path in modules(*PACKAGES) if (found := long_functions(read(path)))}
    assert not wrong
    assert long_functions("def f():\n" + "    x = 1\n" * MOST_LINES_OF_A_FUNCTION)
    assert not long_functions("def f():\n" + "    x = 1\n" * (MOST_LINES_OF_A_FUNCTION - 1))


def test_modules_are_short() -> None:
    """No module is longer than 500 lines."""
    assert not [path for path in modules(*PACKAGES) if is_long(read(path))]
    assert is_long("x = 1\n" * (MOST_LINES_OF_A_MODULE + 1))


def test_files_are_named_by_their_subject() -> None:
    """No module called types, utils, helpers, common, manager or misc."""
    assert not [path for path in modules(*PACKAGES) if is_misnamed(path.relative_to(ROOT))]
    assert is_misnamed(Path("models/utils.py"))
    assert is_misnamed(Path("models/common/runs.py"))


def claimed_by_others(names: set[str]) -> set[str]:
    """Those of our top-level names that the standard library or an installed distribution provides as well."""
    theirs = {
        top
        for top, providers in packages_distributions().items()
        if any(provider != "spendfuse-service" for provider in providers)
    }
    return names & (theirs | set(sys.stdlib_module_names))


def test_nobody_else_has_our_names() -> None:
    """The service is run from its folder: a foreign package of the same name would be imported instead, or hidden."""
    assert not claimed_by_others(set(PACKAGES))
    assert claimed_by_others({"json", "pytest", "models"}) == {"json", "pytest"}
