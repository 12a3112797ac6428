"""Who calls: the keys of keys.v1, in memory."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

from schemas.edge.access_key import OF_ONE_TENANT, AccessKey, AccessKeys, AccessScope, read_token
from schemas.internal.spend import ALL_TENANTS
from streams.clock import seconds
from streams.edge.follower import Follower
from streams.settings import Settings

NEW_KEY_S: Final = 1.0
"""So long a key that is not known is waited for: it may have been made just now."""
LOOK_EVERY_S: Final = 0.02
MOST_AWAITED: Final = 100
"""Requests that may wait so at a time: what shows made-up keys holds up nobody, and asks no broker."""


class Refused(Exception):
    """A caller may not do what it asks for. `status` is 401 where nobody knows it, 403 where its key allows less."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class KeyRing:
    """Every key that stands in keys.v1, followed while it is entered: a revoked one is refused within a second."""

    def __init__(self, settings: Settings) -> None:
        self._keys = AccessKeys()
        self._awaited = 0
        self.unreadable = 0
        """Records of keys.v1 that are no keys."""
        self._follower = Follower(settings, "keys.v1", self._take)

    def __enter__(self) -> Self:
        self._follower.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.__exit__(kind, error, trace)

    @property
    def fault(self) -> str | None:
        """Why a key that was made or revoked just now is not known here; None if it is."""
        return self._follower.fault

    def __len__(self) -> int:
        return len(self._keys)

    async def wait_for_new(self, shown: str | None) -> None:
        """Return once the key that is shown is known, or is not to be expected any more."""
        token = read_token(shown or "")
        if token is None or token.key_id in self._keys or self._awaited >= MOST_AWAITED:
            return
        self._awaited += 1
        until_s = seconds() + NEW_KEY_S
        try:
            while token.key_id not in self._keys and seconds() < until_s:
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._awaited -= 1

    def check(self, shown: str | None, scope: AccessScope) -> AccessKey:
        """The key that a caller has shown, if it allows `scope`. Raises `Refused`."""
        return _allowing(self.find(shown), scope)

    def find(self, shown: str | None) -> AccessKey:
        """The key that a caller has shown, whatever it allows. Raises `Refused`."""
        if not shown:
            raise Refused(401, "no key: send `Authorization: Bearer sf_…` (python -m streams keys create makes one)")
        token = read_token(shown)
        key = None if token is None else self._keys.get(token.key_id)
        if token is None or key is None or not key.is_of(token):
            raise Refused(401, "this key is not known here; `python -m streams keys list` shows which are")
        return _in_use(key)

    def named(self, key_id: str, scope: AccessScope) -> AccessKey:
        """The key with this id, of somebody who has proved otherwise that it is theirs. Raises `Refused`."""
        key = self._keys.get(key_id)
        if key is None:
            raise Refused(401, f"the key {key_id} is not known here; `python -m streams keys list` shows which are")
        return _allowing(_in_use(key), scope)

    def _take(self, message: Any) -> None:
        if not self._keys.take(message.key(), message.value()):
            self.unreadable += 1


def _in_use(key: AccessKey) -> AccessKey:
    if key.revoked_ms is not None:
        raise Refused(401, f"the key {key.key_id} was revoked; make another one")
    return key


def _allowing(key: AccessKey, scope: AccessScope) -> AccessKey:
    if scope not in key.scopes or (key.tenant_id == ALL_TENANTS and scope in OF_ONE_TENANT):
        raise Refused(403, f"the key {key.key_id} may not {scope}: it was made for {', '.join(key.scopes)}")
    return key
