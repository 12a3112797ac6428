"""`enforcer check` and `enforcer history`: how keys at providers stand, and what was done to them."""

from datetime import UTC, datetime
from pathlib import Path

from streams.enforcer.config import read_enforcers
from streams.enforcer.levers import lever_of
from streams.enforcer.process import TOPIC, enforcements
from streams.kafka.admin import existing_topics
from streams.provider_api import ProviderError
from streams.settings import Settings


def run_check(path: Path) -> int:
    """Ask every provider how its key stands; returns 3 if one does not say. Raises `SettingsError`."""
    code = 0
    for one in read_enforcers(path):
        try:
            state = "closed" if lever_of(one).read().is_closed else "open"
        except ProviderError as error:
            state, code = f"cannot be switched: {error}", 3
        print(f"{one.name}  {one.provider} {one.key}: {state}")
    return code


def run_history(settings: Settings) -> int:
    """Print what was done, the oldest first. Raises `BrokerError`."""
    existing_topics(settings, [TOPIC])
    done = [(step.at_ms, one, step) for one in enforcements(settings).values() for step in one.steps]
    if not done:
        print("nothing was ever switched")
    for _, one, step in sorted(done, key=lambda each: each[0]):
        when = datetime.fromtimestamp(step.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        whose = "" if step.is_ours else " (by somebody else)"
        command = f" [{step.command_id}]" if step.command_id else ""
        print(f"{when}  {one.enforcer}  {one.provider} {one.key}  {step.state}{whose}: {step.reason}{command}")
    return 0
