"""The figures of a checkout are those of its source."""

from pathlib import Path

import pytest

from tests.bench.house import main, measure

SOURCES = {
    "schemas/__init__.py": "",
    "schemas/money.py": "import json\n",
    "models/engine.py": "from models import runs\n" + "# a line\n" * 400,
    "models/runs.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from models.rules.levels import Level",
    "models/rules/levels.py": "class Level:\n    def of(self):\n        from models.engine import Engine\n",
    "models/rules/policy.py": "from schemas.money import format_usd\n",
    "sdk/src/spendfuse/__init__.py": "from spendfuse._run import Run\n",
    "sdk/src/spendfuse/_run.py": "from ._guard import Guard\n",
    "sdk/src/spendfuse/_guard.py": "from . import _run\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, source in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return tmp_path


def test_each_package_is_measured(checkout: Path) -> None:
    """Empty files count as no module; the largest folder, the longest module and function are named."""
    (_, *rows), _ = measure(checkout)
    assert rows == [
        ["schemas", "1", "1", "1 schemas", "1 schemas/money.py", "0  (money.py)", "0", "0"],
        ["models", "4", "408", "2 models/rules", "401 models/engine.py", "2 of (levels.py)", "1", "1"],
        ["sdk", "3", "3", "3 sdk/src/spendfuse", "1 sdk/src/spendfuse/__init__.py", "0  (_run.py)", "0", "1"],
    ]


def test_every_circle_of_imports_is_found(checkout: Path) -> None:
    """Imports in functions, for the type checker and relative ones close a circle as any other does."""
    _, groups = measure(checkout)
    assert groups == [["models.engine", "models.rules.levels", "models.runs"], ["spendfuse._guard", "spendfuse._run"]]


def test_a_folder_without_packages_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong folder gives an error that says what to name, and no empty table."""
    assert main([str(tmp_path)]) == 2
    assert "name the top folder of a checkout" in capsys.readouterr().err
