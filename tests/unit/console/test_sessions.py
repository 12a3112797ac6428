"""Logins: what a cookie is worth, and when it is worth nothing any more."""

import random
from typing import Any

import pytest

from schemas.edge.access_key import AccessKey, Token
from schemas.internal.spend import ALL_TENANTS
from streams.console.sessions import LASTS_MS, MOST_FAILURES, LoginLimit, Sessions
from streams.edge.key_ring import KeyRing, Refused
from streams.settings import Settings

SEED = 20_261_128
NOW = 1_795_276_800_000
TOKEN = Token("0" * 12, "1" * 48)


def ring(**more: Any) -> KeyRing:
    """A ring with one key, which follows nothing."""
    given: dict[str, Any] = {
        "key_id": TOKEN.key_id, "tenant_id": "acme", "scopes": ("read",), "secret_sha256": TOKEN.secret_sha256,
        "created_ms": 1, "created_by": "ana", **more,
    }  # fmt: skip
    keys = KeyRing(Settings())
    keys._keys[TOKEN.key_id] = AccessKey(**given)
    return keys


def test_a_cookie_is_its_own_sessions_until_it_is_over() -> None:
    """Known again by any console with the same secret, for half a day; by none with another."""
    sessions = Sessions(ring(), b"s" * 32)
    session, cookie = sessions.log_in(str(TOKEN), NOW)
    assert (session.tenant_id, session.may_operate) == ("acme", False)
    assert TOKEN.secret not in cookie
    assert Sessions(ring(), b"s" * 32).find(cookie, NOW) == session
    assert Sessions(ring(), b"t" * 32).find(cookie, NOW) is None
    assert sessions.find(cookie, NOW + LASTS_MS - 1) == session
    assert sessions.find(cookie, NOW + LASTS_MS) is None
    sessions.log_out(session, NOW)
    assert sessions.find(cookie, NOW) is None


def test_no_other_cookie_is_anybodys() -> None:
    """Whatever character of it is another; and nothing, or anything else."""
    sessions = Sessions(ring(), b"s" * 32)
    _, cookie = sessions.log_in(str(TOKEN), NOW)
    chance = random.Random(SEED)
    for place in range(len(cookie)):
        other = chance.choice([one for one in "0123456789abcdefXYZ._-" if one != cookie[place]])
        changed = cookie[:place] + other + cookie[place + 1 :]
        if place == len(cookie) - 1:
            continue  # the last character holds four bits of the mark; other texts of those decode alike
        assert sessions.find(changed, NOW) is None, (SEED, place)
    for text in (None, "", "x", cookie + "x", "é" * 100, "." * 200):
        assert sessions.find(text, NOW) is None


def test_a_key_that_ends_ends_its_session() -> None:
    """Revoked or gone, it is nobody's; one that may not read any more is told so."""
    keys = ring()
    sessions = Sessions(keys, b"s" * 32)
    _, cookie = sessions.log_in(str(TOKEN), NOW)
    keys._keys[TOKEN.key_id] = ring(revoked_ms=5)._keys[TOKEN.key_id]
    assert sessions.find(cookie, NOW) is None
    keys._keys[TOKEN.key_id] = ring(scopes=("guard",))._keys[TOKEN.key_id]
    with pytest.raises(Refused):
        sessions.find(cookie, NOW)
    keys._keys.clear()
    assert sessions.find(cookie, NOW) is None


def test_forms_are_of_one_session() -> None:
    """A form of another session, or of none, is refused, whatever characters it has."""
    sessions = Sessions(ring(), b"s" * 32)
    one, _ = sessions.log_in(str(TOKEN), NOW)
    other, _ = sessions.log_in(str(TOKEN), NOW)
    assert sessions.is_of_form(one, sessions.form_token(one))
    for token in (sessions.form_token(other), "", "é", sessions.form_token(one)[:-1]):
        assert not sessions.is_of_form(one, token)


def test_wrong_keys_silence_an_address_for_a_minute() -> None:
    """Ten within a minute; others are heard meanwhile, and it is again when the minute is over."""
    limit = LoginLimit()
    for at in range(MOST_FAILURES):
        assert limit.allows("a", NOW + at)
        limit.failed("a", NOW + at)
    assert not limit.allows("a", NOW + 59_000)
    assert limit.allows("b", NOW)
    assert limit.allows("a", NOW + 60_000)


def test_a_key_of_all_tenants_reads_and_orders_and_nothing_else() -> None:
    """Whose usage it sent nobody could tell, so it sends none, whatever stands in its scopes."""
    keys = ring(tenant_id=ALL_TENANTS, scopes=("ingest", "guard", "read", "operate"))
    assert keys.check(str(TOKEN), "read").tenant_id == ALL_TENANTS
    assert keys.check(str(TOKEN), "operate")
    for scope in ("ingest", "guard"):
        with pytest.raises(Refused):
            keys.check(str(TOKEN), scope)
