"""The directions of imports, the purity of what decides, and the measures of size: held by machine.

Every check is a function from source text to faults, and each is shown to fail on a planted text.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from infra.compiled.modules import compiled_files, is_compiled

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "models", "alerting", "streams", "infra")
PURE = ("schemas", "models", "alerting")
ALLOWED = {
    "schemas": {"schemas"},
    "models": {"schemas", "models"},
    "alerting": {"schemas", "alerting"},
    "streams": {"schemas", "models", "alerting", "streams", "infra", "spendfuse"},
    "infra": {"schemas", "models", "infra", "streams", "spendfuse"},
}
OURS = {*PACKAGES, "tests", "sdk"}
SDK = "sdk/src"
IMPURE_MODULES = {
    "aiohttp", "aiokafka", "asyncio", "confluent_kafka", "faust", "http", "httpx", "kafka", "multiprocessing", "os",
    "pagerduty", "quixstreams", "random", "requests", "secrets", "select", "signal", "slack_sdk", "socket",
    "subprocess", "threading", "time", "urllib3", "uuid",
}  # fmt: skip
CLOCK_CALLS = {"now", "utcnow", "today"}
OPEN_BASES = {"abc", "builtins", "typing"}
"""Modules whose classes a compiled one may inherit from: they read no annotations."""
FORBIDDEN_NAMES = {"types", "utils", "helpers", "common", "manager", "misc"}
ALERTING_COMMAND = Path("alerting/__main__.py")
"""Gives `python -m alerting` its name; the process itself is in streams/."""
CLIENTS = {"Consumer", "Producer", "AdminClient"}
CLIENT_FACTORY = Path("streams/kafka/client.py")
TIMES = {"MINUTE_MS", "HOUR_MS", "DAY_MS"}
HOME_OF_TIMES = Path("schemas/duration.py")
MOST_FILES_OF_A_FOLDER = 12
FULL_FOLDERS = {
    "schemas": 17,
    "sdk/src/spendfuse": 14,
}
"""Folders that hold more than they should, and how many: a number may shrink, and be taken out at last."""
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


def module_name(path: Path) -> str:
    """What a file is imported as."""
    home = ROOT / SDK if path.is_relative_to(ROOT / SDK) else ROOT
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> those of the modules that it imports, for type checking only and inside functions included."""
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & sources.keys()
                # `from package import module` needs the module; anything else needs what it is imported from.
                found |= inner if len(inner) == len(node.names) else inner | {node.module}
        graph[name] = (found & sources.keys()) - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports from each group of modules that cannot be understood one after the other."""
    found: list[str] = []
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        _walk(graph, start, path, done, found)
    return found


def _walk(graph: dict[str, set[str]], name: str, path: list[str], done: set[str], found: list[str]) -> None:
    if name in path:
        found.append(" -> ".join([*path[path.index(name) :], name]))
        return
    if name in done:
        return
    path.append(name)
    for other in sorted(graph[name]):
        _walk(graph, other, path, done, found)
    path.pop()
    done.add(name)


def untyped_parts(source: str) -> list[str]:
    """Parameters and attributes of unknown type that are kept: where a cycle of objects hides from the checker."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
            continue
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in ("Any", "object"):
                found.append(f"line {node.lineno}: {argument.arg}: {argument.annotation.id}")
    for node in ast.walk(ast.parse(source)):
        is_any = (
            isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name) and node.annotation.id == "Any"
        )
        if is_any and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            found.append(f"line {node.lineno}: {ast.unparse(node.target)}: Any")
    return found


def defined_times(source: str) -> list[str]:
    """Constants that say once more how long a minute, an hour or a day is."""
    names: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            names += node.targets
        elif isinstance(node, ast.AnnAssign):
            names.append(node.target)
    return [name for name in map(ast.unparse, names) if name.lstrip("_") in TIMES]


def made_clients(source: str) -> list[str]:
    """Calls that make a client of the broker."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in CLIENTS
    ]


def divided_families(module: str, source: str) -> list[str]:
    """Classes of a module whose base is compiled where they are not, or the other way round."""
    tree = ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    homes = {node.name: module for node in classes}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            homes |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.asname or alias.name: node.module for alias in node.names}
    found: list[str] = []
    for one in classes:
        for base in one.bases:
            name = re.split(r"[.\[]", ast.unparse(base))[0]
            home = homes.get(name, "builtins")
            if is_compiled(home) if not is_compiled(module) else not (is_compiled(home) or home in OPEN_BASES):
                found.append(f"{one.name}({ast.unparse(base)})")
    return found


def starred_memberships(source: str) -> list[str]:
    """Questions whether something is in a display with a star: mypyc ends by an error of its own over one."""
    asked = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    return [
        ast.unparse(one)
        for one in asked
        for display in one.comparators
        if isinstance(display, ast.Tuple | ast.List | ast.Set)
        and any(isinstance(each, ast.Starred) for each in display.elts)
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
        return path.name not in SHELL_OF_ALERTING and inside.parts[1:] not in OF_ALL_SENDERS
    return inside.parts[0] == "models" and path.stem != "__main__"


SHELL_OF_ALERTING = {"__main__.py", "sender.py"}
OF_ALL_SENDERS = {("receivers", "base.py"), ("receivers", "causes.py")}


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


def test_nothing_imports_in_circles() -> None:
    """Every module can be read after those it needs: no circle, not even for type checking or inside a function."""
    sources = {module_name(path): read(path) for path in modules(*PACKAGES, SDK)}
    assert "spendfuse._client.run" in sources
    assert not cycles(import_graph(sources))


@pytest.mark.parametrize(
    "first",
    [
        "import b",
        "from b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b import name",
        "def f():\n    from b import name",
    ],
)
def test_a_circle_is_seen(first: str) -> None:
    """However it is hidden, and however long it is; a diamond is none."""
    assert cycles(import_graph({"a": first, "b": "import c", "c": "from a import name"})) == ["a -> b -> c -> a"]
    assert not cycles(import_graph({"a": f"{first}\nimport c", "b": "import d", "c": "import d", "d": ""}))


def test_parts_have_types() -> None:
    """Nothing in the core is handed a part of unknown type: that is how a circle of objects hides from the checker."""
    wrong = {path: found for path in modules("models") if (found := untyped_parts(read(path)))}
    assert not wrong
    assert untyped_parts("class A:\n    def __init__(self, owner: Any) -> None: ...")
    assert untyped_parts("class A:\n    def f(self) -> None:\n        self.owner: Any = None")
    assert not untyped_parts("class A:\n    def __init__(self, fields: dict[str, Any]) -> None: ...")


def test_folders_show_what_is_in_them() -> None:
    """At most a dozen files a folder. Those that hold more are named with their number, which may only shrink."""
    counts = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for top in (*PACKAGES, SDK)
        for path in (ROOT / top).rglob("*.py")
        if path.name != "__init__.py"
    )
    full = {folder: count for folder, count in counts.items() if count > MOST_FILES_OF_A_FOLDER}
    assert {folder: count for folder, count in full.items() if count > FULL_FOLDERS.get(folder, 0)} == {}
    assert FULL_FOLDERS.keys() == full.keys(), "take out the folders that are no longer full"


def test_clients_of_the_broker_are_made_in_one_place() -> None:
    """One that is made elsewhere forgets how to log in. What runs without settings, for tests and demo, may."""
    shell = [path for path in modules("streams") if path.relative_to(ROOT) != CLIENT_FACTORY]
    assert not {path: found for path in shell if (found := made_clients(read(path)))}
    assert made_clients("consumer = confluent_kafka.Consumer({})")
    assert not made_clients("def f(consumer: Consumer) -> None: consumer.close()")


def test_the_length_of_an_hour_is_written_once() -> None:
    """`schemas/duration.py` knows how long a minute, an hour and a day are."""
    elsewhere = [path for path in modules(*PACKAGES) if path.relative_to(ROOT) != HOME_OF_TIMES]
    assert not {path.relative_to(ROOT).as_posix() for path in elsewhere if defined_times(read(path))}
    assert defined_times("_DAY_MS = 24 * 3_600_000")
    assert defined_times("HOUR_MS: Final = 3_600_000")
    assert not defined_times("LATE_MS = 24 * HOUR_MS")


def test_a_compiled_class_and_its_subclasses_are_compiled_together() -> None:
    """`make compiled` makes a service that starts: no interpreted class inherits from a compiled one. Nor is anything
    compiled that declares fields for pydantic or msgspec: their constraints would be gone without a word.
    """
    wrong = {path: found for path in modules(*PACKAGES) if (found := divided_families(module_name(path), read(path)))}
    assert not wrong
    assert Path("models/engine.py") in set(compiled_files(ROOT))
    assert not [path for path in compiled_files(ROOT) if not is_compiled(module_name(ROOT / path))]


def test_what_is_compiled_can_be() -> None:
    """`make compiled` takes minutes, too many for every change: what has once stopped it comes back to no module."""
    wrong = {path: found for path in compiled_files(ROOT) if (found := starred_memberships(read(ROOT / path)))}
    assert not wrong
    assert starred_memberships("a in (None, *B)")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("streams.worker.worker", "from models.state.rows import Row\nclass Noted(Row): ..."),
        ("models.detectors.limits.cap", "from models.state.rows import Row as R\ndef f():\n    class Noted(R): ..."),
        ("models.detectors.limits.cap", "import models.state.rows\nclass Noted(models.state.rows.Row): ..."),
        ("models.engine", "from models.detectors.base import Detector\nclass Rule(Detector[Any]): ..."),
        ("models.engine", "import msgspec\nclass Note(msgspec.Struct): ..."),
        ("models.rules.policy", "from schemas.policy import RuleSettings\nclass NoteSettings(RuleSettings): ..."),
    ],
)
def test_a_divided_family_is_seen(module: str, source: str) -> None:
    """Whichever side the subclass is on, and however its base is imported."""
    assert divided_families(module, source)


def test_a_family_on_one_side_is_fine() -> None:
    """Compiled with compiled, interpreted with interpreted, and what Python itself offers with both."""
    assert not divided_families("models.engine", "from models.state.rows import Row\nclass Noted(Row): ...")
    assert not divided_families("models.engine", "from typing import NamedTuple\nclass A(NamedTuple): ...")
    assert not divided_families("models.engine", "class A: ...\nclass B(A): ...\nclass C(Exception): ...")
    family = "from schemas.policy import Settings\nclass A(Settings): ..."
    assert not divided_families("models.detectors.limits.cap", family)


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
