"""A body of JSON as its items: an array, one object a line, or one object alone, whichever it turns out to be."""

from collections.abc import Iterator
from typing import Final

import msgspec

from schemas.codec import UNREADABLE
from streams.gateway.sources.batch import Unreadable

MOST_ITEMS: Final = 10_000
_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def json_items(body: bytes) -> Iterator[bytes]:
    """The items of a body, each as its bytes. Raises `Unreadable` for a broken array, and for too many."""
    for index, data in enumerate(_items(body)):
        if index >= MOST_ITEMS:
            raise Unreadable(f"more than {MOST_ITEMS:,} messages in one request; send them in several")
        yield bytes(data)


def _items(body: bytes) -> Iterator[bytes | msgspec.Raw]:
    start = body.lstrip()
    if not start.startswith(b"["):
        yield from [start] if _is_one(start) else (line for line in start.splitlines() if line.strip())
        return
    try:
        yield from _array(start)
    except UNREADABLE as error:
        raise Unreadable(f"the body begins as a JSON array and is none: {error}") from None


def _is_one(body: bytes) -> bool:
    """Whether it is one JSON value, over however many lines."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True
