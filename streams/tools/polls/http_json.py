"""Questions to another system's API over HTTP: JSON, or in words why not."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from schemas.errors import SettingsError
from streams.tools.polls.source import UnansweredError

ANSWER_S: Final = 60.0
REFUSED: Final = (400, 401, 403, 404)


def ask(url: str, headers: Mapping[str, str], body: object = None) -> Any:
    """Its answer to a GET, or to a POST of `body` as JSON.

    Raises:
        SettingsError: it refuses, and would again.
        UnansweredError: it does not answer, or is busy.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"{url}: an address begins with https://")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Accept": "application/json", **headers})  # noqa: S310 - checked above
    where = url.partition("?")[0]
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310 - checked above
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in REFUSED:
            raise SettingsError(f"{where} refuses with {error.code}; are address and key right?") from None
        raise UnansweredError(f"{where} answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise UnansweredError(f"{where} does not answer: {error}") from None
