"""OpenRouter's keys: https://openrouter.ai/docs/features/provisioning-api-keys (read 2026-11-27)."""

from urllib.parse import quote

from streams.enforcer.levers.lever import Found
from streams.provider_api import Api, field


class OpenRouterKey:
    """A key by its hash, `disabled` while it is closed. Calls under way finish."""

    def __init__(self, address: str, secret: str, key: str) -> None:
        self._api = Api(address, {"Authorization": f"Bearer {secret}"})
        self._path = f"/keys/{quote(key, safe='')}"

    def read(self) -> Found:
        return Found(bool(field(self._api.call("GET", self._path), "data", "disabled")), "enabled")

    def close(self) -> None:
        self._api.call("PATCH", self._path, {"disabled": True})

    def open(self, before: str) -> None:
        del before  # it was enabled, or it would not have been closed
        self._api.call("PATCH", self._path, {"disabled": False})
