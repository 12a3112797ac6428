"""`routes test`: an operator asks where an alert would go, and a pipeline can hold the answer."""

from pathlib import Path

import pytest

from models.rules.policy import read_policy_json, read_policy_toml
from schemas.errors import PolicyError
from streams.__main__ import main

EXAMPLE = Path(__file__).parents[2] / "infra" / "policies" / "routing.toml"


@pytest.mark.parametrize(
    ("labels", "expected", "code"),
    [
        ("severity=critical,tenant_id=acme", "oncall,ops", 0),
        ("severity=error", "ops, oncall".replace(" ", ""), 0),
        ("severity=warning,workflow=coding-agent", "coding", 0),
        ("severity=info", "ops", 0),
        ("severity=info,detector=watchdog", "outside", 0),
        ("severity=warning,workflow=coding-agent", "ops", 1),
    ],
)
def test_says_where_and_fails_where_it_is_not_expected(
    capsys: pytest.CaptureFixture[str], labels: str, expected: str, code: int
) -> None:
    """The answer names every route that was looked at; the exit code tells whether it is the expected one."""
    arguments = ["routes", "test", "--policy", str(EXAMPLE), "--labels", labels, "--expect", expected]
    assert main(arguments) == code
    assert "route[0]: " in capsys.readouterr().out


def test_wrong_labels_are_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Labels that are none are an error that shows how to write them."""
    assert main(["routes", "test", "--policy", str(EXAMPLE), "--labels", "critical"]) == 2
    assert "write name=value" in capsys.readouterr().err


def test_routing_is_part_of_the_policy() -> None:
    """Its faults are reported with all others, and it travels with the policy."""
    policy = read_policy_toml(EXAMPLE.read_text(encoding="utf-8"))
    assert read_policy_json(policy.to_json()).routing == policy.routing
    with pytest.raises(PolicyError) as caught:
        read_policy_toml('timezone = "Mars/Base"\n[[route]]\nreceivers = ["nobody"]')
    assert "there is no receiver 'nobody'" in str(caught.value)
    assert "Mars/Base" in str(caught.value)
