"""Who sends with a signature in place of a key: which secret it signs with, and whose key it stands for."""

import hashlib
import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from schemas.edge.access_key import AccessKey
from streams.edge.key_ring import KeyRing, Refused


class Signers:
    """The senders that are known.

    Args:
        secrets: name in the path -> `KEY_ID:SECRET`, the id of a key of the gateway and what is signed with.
        keys: where these keys stand.
    """

    def __init__(self, secrets: Mapping[str, SecretStr], keys: KeyRing) -> None:
        self._secrets = secrets
        self._keys = keys

    def refuse_unknown(self, name: str) -> None:
        """Before anything is read of somebody whom nobody knows. Raises `Refused`."""
        if name not in self._secrets:
            raise Refused(401, "nobody of this name signs here; SPENDFUSE_HELICONE_SECRETS names who does")

    def check(self, name: str, signature: str | None, body: bytes) -> AccessKey:
        """The key that a body is taken under: HMAC-SHA256 of its bytes as they were sent, in hexadecimal.

        Raises `Refused`. It takes the same time whatever is wrong with the signature.
        """
        self.refuse_unknown(name)
        key_id, _, secret = self._secrets[name].get_secret_value().partition(":")
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), (signature or "").strip().lower().encode()):
            raise Refused(401, "the signature is not of this body under the secret that is set for it")
        return self._keys.named(key_id, "ingest")
