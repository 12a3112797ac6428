"""Links to the operator's own pages about a tenant, run, incident or rule."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from schemas.alert import Alert

MOST_OF_A_VALUE = 512
MOST_OF_AN_ADDRESS = 2_000
_VALUES = ("tenant_id", "incident_id", "run_id", "rule", "detector")


def links(alerts: Sequence[Alert], templates: Mapping[str, str]) -> list[tuple[str, str]]:
    """Label and address of each of the operator's link templates, such as `https://runs.example/{tenant_id}/{run_id}`.

    Foreign values are percent-encoded, so that they stay inside their part of the path. A template is left out whose
    value is missing, absurdly long, or not the same for all of the alerts.
    """
    values = _shared(alerts)
    found = []
    for label, template in templates.items():
        used = [key for key in _VALUES if f"{{{key}}}" in template]
        if any(not 0 < len(values.get(key, "")) <= MOST_OF_A_VALUE for key in used):
            continue
        address = template
        for key in used:
            address = address.replace(f"{{{key}}}", _encoded(values[key]))
        if address.startswith(("https://", "http://")) and len(address) <= MOST_OF_AN_ADDRESS:
            found.append((label, address))
    return found


def _shared(alerts: Sequence[Alert]) -> dict[str, str]:
    """What is the same for all of the alerts."""
    several = {key: {getattr(alert, key) or "" for alert in alerts} for key in _VALUES}
    return {key: found.pop() for key, found in several.items() if len(found) == 1}


def _encoded(value: str) -> str:
    encoded = quote(value, safe="", errors="surrogatepass")
    # A part that is only dots would be a step up the path.
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
