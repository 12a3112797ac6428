"""Who is logged in: a cookie that names a key of the gateway, and is worth nothing once that key is revoked.

Nothing is kept here. The cookie says which key, since when and a random name of the session, under an HMAC; the key
itself stands in no cookie, page, address or log. Another console with the same secret knows the session as well.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections import deque
from typing import Final, NamedTuple

from schemas.duration import HOUR_MS, MINUTE_MS
from schemas.edge.access_key import AccessKey, AccessScope
from streams.edge.key_ring import KeyRing, Refused

COOKIE: Final = "spendfuse_session"
LASTS_MS: Final = 12 * HOUR_MS
MOST_FAILURES: Final = 10
"""Of one address within a minute; then nobody from there is heard until the minute is over."""
MOST_ADDRESSES: Final = 10_000
_TOKEN: Final = re.compile(r"([0-9a-f]{12})\.(\d{13})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


class Session(NamedTuple):
    """Somebody who is logged in."""

    key: AccessKey
    name: str
    """Of the session: random, and no secret."""

    @property
    def tenant_id(self) -> str:
        """Whose facts they see."""
        return self.key.tenant_id

    @property
    def may_operate(self) -> bool:
        """Whether they may give orders."""
        return "operate" in self.key.scopes

    @property
    def who(self) -> str:
        """Who they are, in orders and in the log."""
        return f"{self.key.label or self.key.created_by} (key {self.key.key_id})"


class Sessions:
    """Logs people in by their keys, and knows them again.

    Args:
        keys: all keys, current.
        secret: what cookies are signed with.
    """

    def __init__(self, keys: KeyRing, secret: bytes) -> None:
        self._keys = keys
        self._secret = secret
        self._ended: dict[str, int] = {}
        """Session that was logged out -> when it would have ended by itself."""

    def log_in(self, shown: str, now_ms: int) -> tuple[Session, str]:
        """The session of whoever shows a key, and its cookie. Raises `Refused`, which tells no key apart from another.

        A key that may not read is told so: whoever has it knows it already.
        """
        key = self._keys.check(shown, "read")
        session = Session(key, secrets.token_hex(16))
        said = f"{key.key_id}.{now_ms:013d}.{session.name}"
        return session, f"{said}.{self._mark('session', said)}"

    def find(self, cookie: str | None, now_ms: int, scope: AccessScope = "read") -> Session | None:
        """Who shows that cookie; None for nobody, or nobody any more. Raises `Refused` where the key allows less."""
        found = _TOKEN.fullmatch(cookie or "")
        if found is None:
            return None
        key_id, since, name, mark = found.groups()
        if not hmac.compare_digest(mark, self._mark("session", f"{key_id}.{since}.{name}")):
            return None
        if not int(since) <= now_ms < int(since) + LASTS_MS or name in self._ended:
            return None
        try:
            return Session(self._keys.named(key_id, scope), name)
        except Refused as error:
            if error.status == 401:
                return None
            raise

    def log_out(self, session: Session, now_ms: int) -> None:
        """Know that session no more."""
        self._ended = {name: until_ms for name, until_ms in self._ended.items() if now_ms < until_ms}
        self._ended[session.name] = now_ms + LASTS_MS

    def form_token(self, session: Session) -> str:
        """What every form of that session carries: no other site can know it."""
        return self._mark("form", session.name)

    def is_of_form(self, session: Session, token: str) -> bool:
        """Whether a form was made for that session."""
        return hmac.compare_digest(token.encode(), self.form_token(session).encode())

    def _mark(self, what: str, text: str) -> str:
        digest = hmac.new(self._secret, f"{what}:{text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class LoginLimit:
    """Refuses an address that has shown too many wrong keys within a minute."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[int]] = {}

    def allows(self, address: str, now_ms: int) -> bool:
        """Whether it may try."""
        failures = self._failures.get(address)
        while failures and failures[0] <= now_ms - MINUTE_MS:
            failures.popleft()
        return not failures or len(failures) < MOST_FAILURES

    def failed(self, address: str, now_ms: int) -> None:
        """It has shown a wrong key."""
        if address not in self._failures and len(self._failures) >= MOST_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(address, deque(maxlen=MOST_FAILURES)).append(now_ms)
