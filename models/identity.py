"""Ids are derived, never drawn: the hash of what something is about, so that a replay makes the same one."""

import hashlib

import msgspec

_encode = msgspec.json.Encoder().encode


def derived_id(*parts: str | float) -> str:
    """32 hexadecimal digits that stand for these parts in this order, and for nothing else."""
    return hashlib.sha256(_encode(parts)).hexdigest()[:32]
