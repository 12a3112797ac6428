"""Keys of the gateway: who may send, ask or read, and for which tenant. What is stored cannot be used to log in."""

import hashlib
import hmac
import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from schemas.usage import EpochMs, Id, Name

AccessScope = Literal["ingest", "guard", "read", "operate"]
"""What a key allows: to send usage; to ask what a run may do, and answer commands; to see; to give orders."""
SCOPES: Final[tuple[AccessScope, ...]] = ("ingest", "guard", "read", "operate")
OF_ONE_TENANT: Final[frozenset[AccessScope]] = frozenset({"ingest", "guard"})
"""What no key of all tenants allows: whose usage it were, nobody could tell."""

_TOKEN: Final = re.compile(r"sf_([0-9a-f]{12})_([0-9a-f]{48})")


class AccessKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value of keys.v1, by the id of the key. A revoked key stays, so that it can be said why it is refused."""

    key_id: Id
    tenant_id: Id
    scopes: tuple[AccessScope, ...]
    secret_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """Of the secret half of the token: 192 random bits, so that no slow hash is needed against guessing."""
    created_ms: EpochMs
    created_by: Name
    when_blind: Literal["continue", "stop"] = "continue"
    """What a guard that asks with it is told while nobody knows what stands."""
    charge: tuple[Name, ...] | None = None
    """The gateway's sources whose model calls count; those of others are passed over, because something else reports
    them. None: all.
    """
    label: Name | None = None
    """What it is for, in its owner's words."""
    revoked_ms: EpochMs | None = None
    revoked_by: Name | None = None

    def charges(self, source: str) -> bool:
        """Whether a model call counts that comes with this key from a source of the gateway."""
        return self.charge is None or source in self.charge

    def is_of(self, token: "Token") -> bool:
        """Whether the token is this key's. Takes the same time whatever is wrong with it."""
        return hmac.compare_digest(self.secret_sha256, token.secret_sha256)


class AccessKeys(dict[str, AccessKey]):
    """Every key by its id, as the newest record of keys.v1 that can be read says: what is no key revokes none."""

    def take(self, key: bytes | None, value: bytes | None) -> bool:
        """Go on with a record, tombstones included; returns whether it could be read."""
        key_id = (key or b"").decode("utf-8", "replace")
        if value is None:
            self.pop(key_id, None)
            return True
        try:
            read = _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if read.key_id != key_id:
            return False
        self[key_id] = read
        return True


class Token(NamedTuple):
    """What a client shows: `sf_<id>_<secret>`."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"sf_{self.key_id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """What is stored of it."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


_decode: Final = msgspec.json.Decoder(AccessKey).decode


def read_token(text: str) -> Token | None:
    """The token that a client has shown; None if it is none of ours."""
    found = _TOKEN.fullmatch(text.strip())
    return None if found is None else Token(found[1], found[2])
