"""The calls of a run and of those that it started."""

import random
from typing import Any

import msgspec

from models.prices.book import PriceBook
from schemas.usage import LlmCall, RunFinished, RunStarted, ToolCall
from streams.console import call_tree
from streams.console.call_tree import CallTree
from tests.support.console_world import calls_of

SEED = 20_261_128


def tree_of(messages: list[Any], run_id: str = "root") -> CallTree:
    """A tree that has taken these."""
    tree = CallTree(run_id, PriceBook())
    for message in messages:
        tree.take(message)
    return tree


def test_calls_are_counted_once_and_repeated_ones_marked() -> None:
    """A message that comes twice is one call; the fifth call of a tool with the same arguments and result is the fifth,
    another result begins anew; totals rise with the costs.
    """
    calls = calls_of("root", 5)
    tree = tree_of([*calls, *calls])
    run = tree.runs["root"]
    assert [one.alike for one in run.calls if isinstance(one.message, ToolCall)] == [1, 2, 3, 4, 5]
    assert [one.alike for one in run.calls if isinstance(one.message, LlmCall)] == [1] * 5
    assert run.cost_nanousd == 5 * 400_000_000 == run.calls[-1].total_nanousd
    other = ToolCall(event_id="o", ts_ms=calls[-1].ts_ms, tenant_id="acme", run_id="root", tool="search_docs",
                     args_hash="a", result_hash="other")  # fmt: skip
    tree.take(other)
    assert run.calls[-1].alike == 1


def test_children_stand_below_whoever_started_them() -> None:
    """By the parent that they name, or by the root alone; a stranger's run is no part of it."""
    common: dict[str, Any] = {"tenant_id": "acme", "ts_ms": 1_795_276_800_000}
    messages = [
        RunStarted(event_id="1", run_id="root", **common),
        RunStarted(event_id="2", run_id="child", parent_run_id="root", root_run_id="root", **common),
        RunStarted(event_id="3", run_id="grandchild", parent_run_id="child", **common),
        RunStarted(event_id="4", run_id="loose", root_run_id="root", **common),
        RunStarted(event_id="5", run_id="stranger", **common),
        RunFinished(event_id="6", run_id="child", status="completed", **common),
    ]
    tree = tree_of(messages)
    assert [(step.depth, step.run.run_id) for step in tree.steps() if step.what == "begins"] == [
        (0, "root"), (1, "child"), (2, "grandchild"), (1, "loose"),
    ]  # fmt: skip


def test_a_child_stands_where_it_was_started() -> None:
    """Between the calls before and after its beginning; each run ends after all below it."""
    child = calls_of("child", 1, parent_run_id="root", root_run_id="root")
    began_ms = calls_of("root", 5)[0].ts_ms
    own = [msgspec.structs.replace(one, ts_ms=began_ms + 1_000 * at) for at, one in enumerate(calls_of("root", 3))]
    child = [msgspec.structs.replace(one, ts_ms=began_ms + 2_500) for one in child]
    tree = tree_of([*own, *child])
    assert [(step.run.run_id, step.what) for step in tree.steps()] == [
        ("root", "begins"), ("root", "call"), ("root", "call"), ("root", "call"),
        ("child", "begins"), ("child", "call"), ("child", "call"), ("child", "ends"),
        ("root", "call"), ("root", "call"), ("root", "call"), ("root", "ends"),
    ]  # fmt: skip


def test_parents_that_go_round_end() -> None:
    """Runs that name each other as parents are each shown once at most, and nothing hangs."""
    common: dict[str, Any] = {"tenant_id": "acme", "ts_ms": 1_795_276_800_000, "root_run_id": "root"}
    chance = random.Random(SEED)
    names = ["root", *(f"r{number}" for number in range(20))]
    messages = [
        RunStarted(event_id=f"{number}", run_id=chance.choice(names), parent_run_id=chance.choice(names), **common)
        for number in range(300)
    ]
    found = [step.run.run_id for step in tree_of(messages).steps() if step.what == "begins"]
    assert len(found) == len(set(found)), SEED


def test_a_tree_is_bounded(monkeypatch: Any) -> None:
    """Beyond so many calls they count in the sums alone; beyond so many runs and messages it says that it is cut."""
    monkeypatch.setattr(call_tree, "MOST_CALLS", 10)
    tree = tree_of(calls_of("root", 20))
    run = tree.runs["root"]
    assert (len(run.calls), run.left_out) == (10, 30)
    assert run.cost_nanousd == 20 * 400_000_000
    monkeypatch.setattr(call_tree, "MOST_RUNS", 3)
    many = tree_of([one for number in range(5) for one in calls_of(f"c{number}", 1, parent_run_id="root",
                                                                  root_run_id="root")])  # fmt: skip
    assert len(many.runs) == 3
    assert many.is_cut
