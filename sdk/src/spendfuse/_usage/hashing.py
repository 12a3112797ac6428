"""Fingerprints of prompts, tool arguments and results, so that loops can be seen and text stays where it is."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass

MAX_DEPTH = 100
HASH_HEX_CHARS = 32


def hash_of(value: object, *, key: bytes | None = None) -> str:
    """Return 32 hex characters: the start of the SHA-256 of the value's canonical JSON (sorted keys, no spaces).

    With a `key` it is HMAC-SHA256, which keeps short or guessable values from being found by trying. Equal values give
    equal hashes in every process. What JSON cannot say is hashed by its dataclass fields, else by its `repr`: an
    object whose `repr` holds an address therefore never looks repeated. Never raises.
    """
    try:
        text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    except Exception:  # whatever the agent's own objects raise, and a list that another thread changes
        text = "repr:" + _repr(value)
    data = text.encode("utf-8", "surrogatepass")
    digest = hmac.new(key, data, hashlib.sha256) if key is not None else hashlib.sha256(data)
    return digest.hexdigest()[:HASH_HEX_CHARS]


def plain(value: object) -> object:
    """Return the value in JSON's own types. Raises RecursionError for one that is nested too deeply."""
    return _plain(value, 0)


def _plain(value: object, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise RecursionError
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_key(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, AbstractSet):
        return sorted(json.dumps(_plain(item, depth + 1), sort_keys=True) for item in value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes:" + hashlib.sha256(value).hexdigest()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), depth + 1) for field in fields(value)}
    return "repr:" + _repr(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) else "repr:" + _repr(key)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a broken repr of the agent's object must not break the agent
        return f"{type(value).__qualname__}@{id(value):x}"
