"""Whom the demo tells, from what the environment has."""

import json

import pytest
from slack_sdk import WebClient

from alerting.routing.router import Router
from infra.demo.receivers import USUAL_CHANNEL, first_channel, policy_with_receivers
from models.rules.policy import read_policy_toml
from tests.support.alerting_process import Listening
from tests.support.receivers import Answer, Received, Receiver

POLICY = 'version = "demo"\n'
SLACK = {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_CHANNEL": "#spend"}
PAGERDUTY = {"PAGERDUTY_ROUTING_KEY": "R0"}


@pytest.mark.parametrize(
    ("environment", "warned", "paged"),
    [
        ({}, ["console"], ["console"]),
        (SLACK, ["console", "chat"], ["console", "chat"]),
        (PAGERDUTY, ["console"], ["pager", "console"]),
        (SLACK | PAGERDUTY, ["console", "chat"], ["pager", "console", "chat"]),
    ],
)
def test_a_key_is_all_it_takes(environment: dict[str, str], warned: list[str], paged: list[str]) -> None:
    """The terminal always; Slack and PagerDuty with their keys alone; PagerDuty only of what pages."""
    text, _ = policy_with_receivers(POLICY, environment)
    router = Router(read_policy_toml(text).routing)
    assert list(router.explain({"severity": "warning"}).receivers) == warned
    assert list(router.explain({"severity": "critical"}).receivers) == paged


@pytest.mark.parametrize(
    ("answer", "channel"),
    [
        ({"ok": True, "channels": [{"id": "C07", "name": "spend"}]}, "C07"),
        ({"ok": True, "channels": []}, USUAL_CHANNEL),
        ({"ok": False, "error": "missing_scope"}, USUAL_CHANNEL),
    ],
)
def test_a_channel_is_found(answer: dict[str, object], channel: str) -> None:
    """Where the bot is a member; where it is none, or may not look, the channel that every workspace has."""

    def usual(_received: Received, _count: int) -> Answer:
        return Answer(body=json.dumps(answer).encode())

    with Listening(Receiver(usual)) as slack:
        assert first_channel(WebClient("xoxb-1", base_url=f"{slack.url}/api/")) == channel
