"""Links to the operator's own pages about a tenant, run, incident or rule."""

from collections.abc import Mapping
from urllib.parse import quote

from schemas.alert import Alert

MOST_OF_A_VALUE = 512
MOST_OF_AN_ADDRESS = 2_000


def links(alert: Alert, templates: Mapping[str, str]) -> list[tuple[str, str]]:
    """Label and address of each of the operator's link templates, such as `https://runs.example/{tenant_id}/{run_id}`.

    Foreign values are percent-encoded, so that they stay inside their part of the path. A template whose value is
    missing or absurdly long is left out.
    """
    values = {
        "tenant_id": alert.tenant_id,
        "incident_id": alert.incident_id,
        "run_id": alert.run_id or "",
        "rule": alert.rule,
        "detector": alert.detector,
    }
    found = []
    for label, template in templates.items():
        used = [key for key in values if f"{{{key}}}" in template]
        if any(not 0 < len(values[key]) <= MOST_OF_A_VALUE for key in used):
            continue
        address = template
        for key in used:
            address = address.replace(f"{{{key}}}", _encoded(values[key]))
        if address.startswith(("https://", "http://")) and len(address) <= MOST_OF_AN_ADDRESS:
            found.append((label, address))
    return found


def _encoded(value: str) -> str:
    encoded = quote(value, safe="", errors="surrogatepass")
    # A part that is only dots would be a step up the path.
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
