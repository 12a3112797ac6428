"""Anthropic's API keys: https://platform.claude.com/docs/en/api/admin/api_keys (read 2026-11-27)."""

from urllib.parse import quote

from streams.enforcer.levers.lever import Found
from streams.provider_api import Api, field

VERSION = "2023-06-01"


class AnthropicKey:
    """An API key by its id, `inactive` while it is closed. It takes an admin key; individuals have none."""

    def __init__(self, address: str, secret: str, key: str) -> None:
        self._api = Api(address, {"x-api-key": secret, "anthropic-version": VERSION})
        self._path = f"/v1/organizations/api_keys/{quote(key, safe='')}"

    def read(self) -> Found:
        status = str(field(self._api.call("GET", self._path), "status"))
        return Found(status != "active", status)

    def close(self) -> None:
        self._api.call("POST", self._path, {"status": "inactive"})

    def open(self, before: str) -> None:
        self._api.call("POST", self._path, {"status": before})
