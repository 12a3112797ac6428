"""The pages about sizes and upgrades: their sums are right, and what they name is there."""

import argparse
import math
import re
import shlex
from pathlib import Path

import pytest

from models.state.rows import SCHEMA
from streams.commands.registry import add_all
from streams.settings import Settings
from tests.support.deploy import ROOT

PAGES = sorted((ROOT / "docs" / "operations").glob("*.md"))
SIZES = (ROOT / "docs" / "operations" / "from-one-machine-to-many.md").read_text(encoding="utf-8")
UPGRADES = (ROOT / "docs" / "operations" / "upgrades.md").read_text(encoding="utf-8")
MEANS = (100, 1_000, 10_000)
CPU_S, ROW, EVENT = 30e-6, 564, 911
LIVE, ASLEEP, SCOPE, PROCESS = 1_700, 250, 3_000, 200e6
FAST, SLOW = 241_000, 69_000
WEEK_S, KEPT_S = 604_800, 3_024_000
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


def row(page: str, name: str) -> list[list[float]]:
    """The numbers in each cell of a table's row, thousands and millions spelled out."""
    [line] = [line for line in page.splitlines() if line.startswith(f"| {name}")]
    cells = [cell.replace(",", "") for cell in line.strip("|").split("|")[1:]]
    scale = {"million": 1e6, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MB/s": 1e6, "min": 60, "h": 3600, "%": 0.01}
    return [
        [float(number) * scale.get(unit, 1) for number, unit in re.findall(r"(\d+(?:\.\d+)?) ?([A-Za-z/%]*)", cell)]
        for cell in cells
    ]


@pytest.mark.parametrize("column", range(3), ids=[str(mean) for mean in MEANS])
def test_the_examples_follow_from_the_formulas(column: int) -> None:
    """Each number of the table is the formula's, to the two digits that it is given with."""
    mean = MEANS[column]
    peak, ending = 3 * mean, mean / 43
    asleep = ending * WEEK_S
    workers = math.ceil(1 + peak * CPU_S / 0.5)
    memory = ending * 300 * LIVE + asleep * ASLEEP + mean / 100 * 20 * SCOPE

    def is_near(name: str, *wanted: float, rough: float = 0.06) -> None:
        assert row(SIZES, name)[column] == pytest.approx(list(wanted), rel=rough), name

    is_near("peak `e`", peak)
    is_near("a core's share", peak * CPU_S)
    is_near("workers", 1, peak * CPU_S / 0.5, workers, rough=0.12)
    is_near("runs that end", ending)
    is_near("live runs", ending * 300, ending * 300 * LIVE, rough=0.2)
    is_near("asleep for a week", asleep, asleep * ASLEEP)
    is_near("memory of a worker", memory / (workers - 1) + PROCESS, rough=0.1)
    is_near("into the brokers", peak * (EVENT + ROW) * 3)
    is_near("`usage.v1`, each copy", mean * EVENT * KEPT_S)
    over_http = peak / 3
    share = (over_http / 1_000 + over_http / 2_000) * 0.125 / 0.5
    is_near("gateways", 1, share, math.ceil(1 + share), rough=0.08)
    rows, *times = row(SIZES, "rows that a worker reads back")[column]
    assert rows == pytest.approx(asleep / workers, rel=0.06)
    assert times[-1] == pytest.approx(asleep / workers / SLOW, rel=0.06)


def test_the_figures_are_those_that_were_measured() -> None:
    """Each figure that the arithmetic begins with stands in the measurements, which say how it was made."""
    measured = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    for figure in (
        "392 | 564",
        "911 bytes",
        "| 1.7 KB",
        "| 249 bytes",
        "| 3.0 KB",
        "69,000 rows/s",
        "241,000 records/s",
    ):
        assert figure in measured, figure
    assert "a quarter of a core for both" in measured
    sections = set(re.findall(r"^#+ (.+)$", measured, re.MULTILINE))
    named = re.findall(r"\| ([^|]+) \|$", SIZES.partition("## The arithmetic")[0], re.MULTILINE)
    assert {part.strip() for cell in named for part in cell.split(";")} - {"section of the measurements"} <= sections


@each_page
def test_what_a_page_names_is_there(page: Path) -> None:
    """Links and tests exist, settings are settings, and commands are understood."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert all((page.parent / link).exists() for link in links), links
    assert all(list((ROOT / "tests").rglob(name)) for name in re.findall(r"test_\w+\.py", text))
    known = {f"SPENDFUSE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"SPENDFUSE_\w+", text)) <= known
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_all(parser.add_subparsers(required=True))
    for command in re.findall(r"python -m streams ((?:[\w-]+ ?)+)(?=[`\n]| {2,})", text):
        parser.parse_args(shlex.split(command.replace("--workers N", "--workers 2")))


def test_the_schema_is_where_the_page_says() -> None:
    """A reader who looks it up finds it."""
    assert "`SCHEMA` in `models/state/rows.py`" in UPGRADES
    assert SCHEMA >= 5
