"""What the pages tell people to type and to paste is what there is: commands, Python, JSON and TOML."""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from schemas.errors import SpendfuseError
from streams.commands.registry import add_all
from streams.tools.orders.registry import VERBS, order_of
from tests.support import pages
from tests.support.pages import ROOT, fences

DECISIONS = ROOT / "docs" / "decisions"
"""Which say what was."""
PAGES = sorted(
    [ROOT / "README.md", ROOT / "sdk" / "README.md"]
    + [path for path in (ROOT / "docs").rglob("*.md") if path.parent != DECISIONS]
)
CONNECT = sorted(pages.CONNECT.glob("*.md"))
ORDERS = {verb.name for verb in VERBS}
NOW_MS = 1_795_392_000_000
PLACEHOLDER = re.compile(r"[…|\[\]<>{}]|\.\.\.")
"""What shows that a line is a pattern and no command: choices, what is left out, names in brackets."""


def commands(path: Path) -> list[str]:
    """The arguments of each `python -m streams` on a page, in a line of its own or in a sentence."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    inline = re.findall(r"`(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?python -m streams ([^`]*)`", text)
    lines = re.findall(
        r"^(?: {4}|\$ )?(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/)?python -m streams ([^#\n`]*)", text, re.MULTILINE
    )
    found = [" ".join(each.partition(" #")[0].split()) for each in (*inline, *lines)]
    return [each.replace("sf_…", "sf_0").replace('"…"', '"it"').replace(" N", " 2") for each in found if each]


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    """What understands a command line, as `python -m streams` does."""
    parser = argparse.ArgumentParser(prog="python -m streams", exit_on_error=True)
    parser.add_argument("--version", action="store_true")
    add_all(parser.add_subparsers(dest="command"))
    return parser


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_can_be_typed_as_shown(
    path: Path, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of a page has options and arguments that there are."""
    wrong: list[str] = []
    for line in commands(path):
        if PLACEHOLDER.search(line):
            continue
        try:
            options = parser.parse_args(shlex.split(line))
            if options.command in ORDERS and "--" in line:
                order_of(options, "ana", NOW_MS)
        except SpendfuseError as error:
            wrong.append(f"{line}: {error}")
        except SystemExit:
            fault = capsys.readouterr().err.splitlines()[-1]
            if "--" in line or "required" not in fault:  # without options a sentence may just name a command
                wrong.append(f"{line}: {fault}")
    assert wrong == []


def test_a_command_that_is_not_there_is_found(tmp_path: Path, parser: argparse.ArgumentParser) -> None:
    """The test above can fail."""
    page = tmp_path / "page.md"
    page.write_text(
        "Say `python -m streams keys make --tenant\nacme`, or\n\n    python -m streams kil --run R   # now\n"
    )
    assert commands(page) == ["keys make --tenant acme", "kil --run R"]
    for line in commands(page):
        with pytest.raises(SystemExit):
            parser.parse_args(shlex.split(line))


def test_python_of_the_pages_can_be_pasted(tmp_path: Path) -> None:
    """A page's blocks, one after the other, name nothing that they have not imported or made."""
    for path in CONNECT:
        if blocks := fences(path, "python"):
            (tmp_path / f"{path.stem}.py").write_text("\n".join(blocks), encoding="utf-8")
    (tmp_path / "prefork.py").unlink()  # files of their own, which tests/contract/test_prefork.py runs
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--target-version", "py311"]
    done = subprocess.run(
        [*ruff, "--select", "F821,F704,F706", "--output-format", "concise", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_settings_of_the_pages_can_be_read() -> None:
    """Every block of JSON and TOML is one."""
    for path in CONNECT:
        for block in fences(path, "json"):
            json.loads(block)
        for block in fences(path, "toml"):
            tomllib.loads(block)
