"""OpenAI's limit of a project: `/organization/projects/{id}/spend_limit` (openai 3.57, `ProjectSpendLimit`)."""

from typing import Any, Final
from urllib.parse import quote

from streams.enforcer.levers.lever import Found
from streams.provider_api import Api, ProviderError, field

LEAST_CENTS: Final = 1
NONE: Final = "none"


class OpenAiProject:
    """A project by its id: while it is closed its hard limit is one cent a month. Where it had none it is deleted
    again. A project that has spent nothing this month may spend that cent.
    """

    def __init__(self, address: str, secret: str, key: str) -> None:
        self._api = Api(address, {"Authorization": f"Bearer {secret}"})
        self._path = f"/organization/projects/{quote(key, safe='')}/spend_limit"

    def read(self) -> Found:
        answer = self._api.call("GET", self._path, absent={})
        if not answer:
            return Found(is_closed=False, before=NONE)
        if (currency := field(answer, "currency")) != "USD":
            raise ProviderError(f"the limit is in {currency}, and only USD is understood")
        cents = field(answer, "threshold_amount")
        return Found(cents <= LEAST_CENTS, str(cents))

    def close(self) -> None:
        self._set(LEAST_CENTS)

    def open(self, before: str) -> None:
        if before == NONE:
            self._api.call("DELETE", self._path, absent={})
        else:
            self._set(int(before))

    def _set(self, cents: int) -> None:
        limit: dict[str, Any] = {"currency": "USD", "interval": "month", "threshold_amount": cents}
        self._api.call("POST", self._path, limit)
