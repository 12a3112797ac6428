"""`python -m infra.image.health`: whether the process of this container is well, by its own /healthz."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

ANSWER_S: Final = 4.0


def fault(variables: Mapping[str, str]) -> str | None:
    """What is wrong, in a sentence; None if nothing is. A process without pages cannot be asked, and is well."""
    port = variables.get("SPENDFUSE_METRICS_PORT") or "0"
    if port == "0":
        return None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=ANSWER_S):
            return None
    except urllib.error.HTTPError as sick:
        return str(sick.read().decode(errors="replace").strip())
    except OSError as error:
        return f"nobody answers on port {port}: {error}"


def main() -> int:
    """Say what is wrong; returns 1 if something is."""
    found = fault(os.environ)
    if found is not None:
        print(found)
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
