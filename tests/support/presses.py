"""Presses of a Slack message's buttons, as Slack posts them: signed, in a form."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier

from alerting.notice import Notice
from alerting.receivers.slack.blocks import ACKNOWLEDGE, slack_message
from schemas.alert import Alert
from streams.clock import wall_ms

SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
IDS = {"tenant_id": "acme", "incident_id": "i1", "run_id": "r1"}


def buttons(alert: Alert) -> dict[str, str]:
    """The buttons under the message about an alert: action id -> value."""
    blocks = slack_message(Notice("incident", (alert,)), {}).blocks
    elements = [element for block in blocks if block["type"] == "actions" for element in block["elements"]]
    return {element["action_id"]: element["value"] for element in elements}


def press(action_id: str = ACKNOWLEDGE, value: str | None = None, **fields: Any) -> dict[str, Any]:
    """Slack's account of a press; `value` is the button's. `fields` replace what Slack would say."""
    action = {
        "type": "button", "action_id": action_id, "block_id": "b", "action_ts": "1795276800.123456",
        "value": json.dumps(IDS) if value is None else value, "text": {"type": "plain_text", "text": "?"},
    }  # fmt: skip
    return {
        "type": "block_actions",
        "user": {"id": "U01ANA", "username": "ana", "name": "ana", "team_id": "T1"},
        "api_app_id": "A1",
        "trigger_id": "1338.4.abcdef",
        "team": {"id": "T1", "domain": "acme"},
        "channel": {"id": "C1", "name": "alerts"},
        "message": {"type": "message", "text": "whatever it was", "blocks": []},
        "response_url": "",
        "actions": [action],
        **fields,
    }


def form(pressed: Mapping[str, Any]) -> bytes:
    """The body that Slack posts."""
    return urlencode({"payload": json.dumps(pressed)}).encode()


def signed(body: bytes, secret: str = SIGNING_SECRET, age_s: int = 0) -> dict[str, str]:
    """The headers with which Slack proves that it posts this."""
    at = str(wall_ms() // 1000 - age_s)
    signature = SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": signature or "",
    }
