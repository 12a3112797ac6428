"""The key that a request shows, in whichever way its client library can show one."""

import base64
import binascii
from collections.abc import Mapping


def shown_token(headers: Mapping[str, str]) -> str | None:
    """The token in `Authorization`, as a bearer's or as a user's password, or else in `x-api-key`; None without any.

    Libraries that know a public and a secret key send both as user and password: `sf_<id>` is the public half of a
    token, and what follows its second `_` the secret one. A whole token does as a password too, whoever the user is.
    """
    kind, _, given = headers.get("Authorization", "").partition(" ")
    match kind.lower():
        case "bearer":
            return given
        case "basic":
            return _of_password(given)
        case _:
            return headers.get("x-api-key")


def _of_password(given: str) -> str | None:
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if password.startswith("sf_") else f"{user}_{password}"
