"""The README keeps its word: its table is current, its Python runs, its policy parses."""

import re
from pathlib import Path

import pytest

from infra.kafka.embedded import EmbeddedBroker
from models.rules.policy import read_policy_toml
from models.rules.readme_table import with_table
from streams.tools.orders.registry import VERBS
from tests.support.words import order

NOW_MS = 1_795_392_000_000
README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBroker:
    """A broker where the examples expect one."""
    embedded.create_topics("", 2)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    return embedded


def test_table_of_detectors_is_current() -> None:
    """The table says what the detectors' own docstrings say."""
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "run python -m models export"


def test_policy_example_is_valid() -> None:
    """The policy in the README is accepted as it stands: its rules, and beside them its receivers and routes."""
    rules, routing, review = blocks("toml")
    policy = read_policy_toml(rules + routing + review)
    assert {"tenant-hourly", "run-cost", "hourly-5x", "same-call-again"} <= set(policy.rules)
    assert set(policy.routing.receivers) == {"oncall", "team"}
    assert policy.routing.review is not None


def test_orders_can_be_typed_as_shown() -> None:
    """Every order in the README is understood as it stands; the one that lists them is no order."""
    section = README.read_text(encoding="utf-8").partition("## Tell it what you know")[2].partition("\n## ")[0]
    lines = re.findall(r"^python -m streams (\w+ +[^#\n]*)", section, re.MULTILINE)
    assert {line.split()[0] for line in lines} == {*(verb.name for verb in VERBS), "orders"}
    for line in lines:
        if not line.startswith("orders"):
            order(line, "ana", NOW_MS)


def test_python_examples_run(broker: EmbeddedBroker) -> None:
    """The examples run in their order, against a broker, as a reader would paste them."""
    namespace: dict[str, object] = {}
    examples = blocks("python")
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, str(README), "exec"), namespace)  # it is our own text
    for closable in ("guard", "emitter"):
        namespace[closable].close()  # type: ignore[attr-defined]
