"""Messages that a source's own words were mapped to: checked, and written as what was understood of them."""

from collections.abc import Callable
from typing import Any

from schemas.codec import decode_usage, encode
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.fingerprints import args_hash, result_hashes
from streams.gateway.sources.batch import Batch, Item, Rejected

Usage = dict[str, Any]
"""The members of a usage.v1 message, without its tenant. Of a tool call, `args` and `result` as they were sent."""


def add_usage(batch: Batch, place: int, data: bytes, key: AccessKey, read: Callable[[bytes], Usage | None]) -> None:
    """Add to a batch what one item of a request comes to: a message, nothing, or what is wrong with it.

    `read` raises `Undecodable`.
    """
    try:
        usage = read(data)
        if usage is None:
            batch.ignored += 1
        else:
            batch.items.append(usage_item(usage, key.tenant_id))
    except Undecodable as fault:
        batch.rejected.append(Rejected(place, fault.reason, fault.detail, data))


def usage_item(usage: Usage, tenant_id: str) -> Item:
    """The message as it is written. Raises `Undecodable`."""
    message = decode_usage(encode(hashed(usage) | {"tenant_id": tenant_id}))
    return Item(tenant_id, encode(message))


def hashed(usage: Usage) -> Usage:
    """The hashes of a tool's arguments and result in place of both."""
    members = {name: value for name, value in usage.items() if name not in ("args", "result")}
    if "args" in usage:
        members["args_hash"] = args_hash(usage["args"])
    if usage.get("result") is not None:
        members |= result_hashes(usage["result"])
    return members
