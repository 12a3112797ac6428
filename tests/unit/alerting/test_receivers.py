"""Kinds of receivers: one folder each, one table of them, and nothing else that names them."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from alerting.receivers.registry import KINDS
from schemas.routing import NEEDS, PAGERS, Receiver, ReceiverType

ROOT = Path(__file__).parents[3]
PLACES = {Path("schemas/routing.py"), Path("alerting/receivers/registry.py")}
"""Where kinds are named: what the policy may say of them, and the registry."""
TYPES: tuple[ReceiverType, ...] = get_args(ReceiverType)


def named(source: str) -> list[str]:
    """Kinds that a module names: as a text of their own, or by importing from their folders."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in TYPES:
            found.append(f"line {node.lineno}: {node.value!r}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alerting.receivers."):
            kind = (node.module or "").split(".")[2]
            found += [f"line {node.lineno}: {kind}"] if kind in TYPES else []
    return found


def test_every_kind_has_its_folder_and_its_entry() -> None:
    """What the policy may name can be opened, has limits, and says which settings it needs."""
    assert KINDS.keys() == NEEDS.keys() == set(TYPES)
    for kind in TYPES:
        assert (ROOT / "alerting/receivers" / kind / "kind.py").is_file()
        assert (ROOT / "alerting/receivers" / kind / "sender.py").is_file()
        limits = KINDS[kind].limits
        assert 0 <= limits.pace_ms < limits.first_retry_ms < limits.most_retry_ms
    assert set(TYPES) > PAGERS


def test_nothing_else_names_them() -> None:
    """Whoever adds a kind adds a folder and an entry: stages and the notifier know kinds by the registry alone.

    Slack's buttons and the review's Slack blocks are about Slack itself.
    """
    about_slack = {Path("streams/notifier/slack_actions.py"), Path("alerting/review/message.py")}
    modules = [path for package in ("alerting", "streams/notifier") for path in (ROOT / package).rglob("*.py")]
    faults = {}
    for path in modules:
        inside = path.relative_to(ROOT)
        is_kind = inside.parts[:2] == ("alerting", "receivers") and len(inside.parts) > 3
        if inside not in PLACES | about_slack and not is_kind and (found := named(path.read_text())):
            faults[str(inside)] = found
    assert not faults
    assert named('x = {"slack": 1}')
    assert named("from alerting.receivers.slack.sender import SlackSender")


@pytest.mark.parametrize(
    ("table", "variables"),
    [
        ({"type": "slack", "channel": "#c"}, ["SLACK_BOT_TOKEN"]),
        ({"type": "slack", "channel": "#c", "key_env": "T"}, ["T"]),
        ({"type": "pagerduty", "key_env": "K"}, ["K"]),
        ({"type": "webhook", "url": "https://x.example"}, []),
        ({"type": "webhook", "url_env": "U", "key_env": "K"}, ["K", "U"]),
        ({"type": "console"}, []),
    ],
)
def test_secrets_are_named_by_their_variables(table: dict[str, str], variables: list[str]) -> None:
    """What must be in the environment follows from what the policy says."""
    receiver = Receiver.model_validate(table)
    assert KINDS[receiver.type].variables(receiver) == variables
