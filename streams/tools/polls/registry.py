"""Every system that `poll --from` knows, by its name. To add one is to add a module, and a line here."""

from collections.abc import Iterable
from typing import Final

from schemas.errors import SettingsError
from streams.tools.polls.braintrust import BRAINTRUST
from streams.tools.polls.langfuse import LANGFUSE
from streams.tools.polls.source import PollSource

POLLS: Final[dict[str, PollSource]] = {"braintrust": BRAINTRUST, "langfuse": LANGFUSE}


def polled_systems(given: Iterable[str]) -> dict[str, str]:
    """System -> tenant, out of words such as `langfuse=acme`. Raises `SettingsError`."""
    found: dict[str, str] = {}
    for words in given:
        name, _, tenant_id = words.partition("=")
        if name not in POLLS or not tenant_id:
            raise SettingsError(f"--poll {words}: write SYSTEM=TENANT, with one of {', '.join(sorted(POLLS))}")
        if name in found:
            raise SettingsError(
                f"--poll {words}: {name} is polled for {found[name]} already, and the environment has one key for it; "
                "poll for another tenant with `python -m streams poll` and that tenant's key"
            )
        found[name] = tenant_id
    return found
