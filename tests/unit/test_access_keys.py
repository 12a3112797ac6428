"""Keys of the gateway as keys.v1 holds them: what the gateway obeys is what `keys list` shows."""

import msgspec
import pytest

from schemas.codec import encode
from schemas.edge.access_key import AccessKey, AccessKeys, Token
from schemas.errors import SettingsError
from streams.settings import Settings
from streams.tools import access_keys

TOKEN = Token("0123456789ab", "00" * 24)
KEY = AccessKey(
    key_id=TOKEN.key_id, tenant_id="acme", scopes=("ingest",), secret_sha256=TOKEN.secret_sha256,
    created_ms=1_795_000_000_000, created_by="ana",
)  # fmt: skip
ID = KEY.key_id.encode()


def test_the_newest_record_of_a_key_stands() -> None:
    """A revocation replaces the key, and a tombstone removes it."""
    keys = AccessKeys()
    assert keys.take(ID, encode(KEY))
    assert keys.take(ID, encode(msgspec.structs.replace(KEY, revoked_ms=KEY.created_ms)))
    assert keys[KEY.key_id].revoked_ms == KEY.created_ms
    assert keys.take(ID, None)
    assert keys == {}


@pytest.mark.parametrize(("key", "value"), [(ID, b"{"), (ID, b"\xff"), (b"another", encode(KEY)), (None, encode(KEY))])
def test_what_is_no_key_changes_nothing(key: bytes | None, value: bytes) -> None:
    """Garbage over a key revokes nothing, and a key under another's id is nobody's; both are said to be unreadable."""
    keys = AccessKeys({KEY.key_id: KEY})
    assert not keys.take(key, value)
    assert keys == {KEY.key_id: KEY}


def test_who_makes_a_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings, as for an order; where they have no name, it is asked for, and no key is made."""
    written: list[AccessKey] = []
    monkeypatch.setattr(access_keys, "existing_topics", lambda *_: {})
    monkeypatch.setattr(access_keys, "_write", lambda _, key: written.append(key))
    access_keys.run_create(Settings(operator_name="ana"), "acme", ("ingest",), None)
    with pytest.raises(SettingsError, match="SPENDFUSE_OPERATOR_NAME"):
        access_keys.run_create(Settings(), "acme", ("ingest",), None)
    assert [key.created_by for key in written] == ["ana"]
