"""LiteLLM's virtual keys: `/key/info`, `/key/block` and `/key/unblock` of its proxy (1.110)."""

from urllib.parse import quote

from streams.enforcer.levers.lever import Found
from streams.provider_api import Api, field


class LiteLlmKey:
    """A virtual key by its token or the hash of it, blocked while it is closed."""

    def __init__(self, address: str, secret: str, key: str) -> None:
        self._api = Api(address, {"Authorization": f"Bearer {secret}"})
        self._key = key

    def read(self) -> Found:
        answer = self._api.call("GET", f"/key/info?key={quote(self._key, safe='')}")
        return Found(bool(field(answer, "info").get("blocked")), "unblocked")

    def close(self) -> None:
        self._api.call("POST", "/key/block", {"key": self._key})

    def open(self, before: str) -> None:
        del before  # it was not blocked, or it would not have been closed
        self._api.call("POST", "/key/unblock", {"key": self._key})
