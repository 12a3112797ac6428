"""Whom the demo tells: the terminal, and Slack or PagerDuty if the environment has a key for them."""

from collections.abc import Mapping

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

SLACK = "SLACK_BOT_TOKEN"
SLACK_CHANNEL = "SLACK_CHANNEL"
PAGERDUTY = "PAGERDUTY_ROUTING_KEY"
USUAL_CHANNEL = "#general"


def policy_with_receivers(policy: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The policy with receivers and a route to all of them, and a line about who they are."""
    everything, pages, told = ["console"], [], ["the terminal"]
    tables = []
    if token := environment.get(SLACK):
        channel = environment.get(SLACK_CHANNEL) or first_channel(_slack(token, environment))
        tables.append(f'[receivers.chat]\ntype = "slack"\nkey_env = "{SLACK}"\nchannel = "{channel}"')
        everything.append("chat")
        told.append(f"Slack ({channel})")
    if environment.get(PAGERDUTY):
        tables.append(f'[receivers.pager]\ntype = "pagerduty"\nkey_env = "{PAGERDUTY}"')
        pages.append("pager")
        told.append("PagerDuty (what pages)")
    missing = [name for name in (SLACK, PAGERDUTY) if not environment.get(name)]
    if pages:
        tables.append(_route('match = { severity = ["critical", "error"] }\ncontinue = true', pages))
    tables.append(_route('group_by = ["incident_id"]\ngroup_wait_seconds = 0', everything))
    hint = f"; set {' or '.join(missing)} to tell more" if missing else ""
    return "\n\n".join([policy.rstrip(), *tables]) + "\n", " and ".join(told) + hint


def first_channel(slack: WebClient) -> str:
    """A channel that the token's bot is a member of, else the one that every workspace has."""
    try:
        channels = slack.users_conversations(types="public_channel,private_channel", limit=1)["channels"] or []
    except (SlackApiError, OSError):
        return USUAL_CHANNEL  # the token may not be allowed to look
    return str(channels[0]["id"]) if channels else USUAL_CHANNEL


def _slack(token: str, environment: Mapping[str, str]) -> WebClient:
    return WebClient(token, base_url=environment.get("SPENDFUSE_SLACK_URL", WebClient.BASE_URL), timeout=10)


def _route(how: str, receivers: list[str]) -> str:
    names = ", ".join(f'"{name}"' for name in receivers)
    return f"[[route]]\n{how}\nreceivers = [{names}]"
