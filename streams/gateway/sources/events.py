"""`POST /v1/events`: usage.v1 as JSON, for whoever has no Kafka client: one message, an array, or one a line."""

from typing import Any, Final

import msgspec

from schemas.codec import UNREADABLE, decode_usage, encode
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from schemas.usage import CommandAck
from streams.gateway.sources.batch import Batch, Item, Rejected, Unreadable
from streams.gateway.sources.json_items import json_items
from streams.gateway.sources.source import Headers, Source, plain_answer, plain_problem


def read_events(_: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each message of a body. The tenant is the key's; a message that names another one is rejected.

    Raises:
        Unreadable: the body as a whole is nothing of that.
    """
    batch = Batch()
    for index, data in enumerate(json_items(body)):
        try:
            batch.items.append(Item(key.tenant_id, _value(data, key)))
        except Undecodable as fault:
            batch.rejected.append(Rejected(index, fault.reason, fault.detail, data))
    if not batch.items and not batch.rejected:
        raise Unreadable("the body is empty; send usage.v1 messages as a JSON array, or one JSON object a line")
    return batch


def _value(data: bytes, key: AccessKey) -> bytes:
    """The message as it is written: with the key's tenant, each member once. Raises `Undecodable`."""
    try:
        members: Any = msgspec.json.decode(data)
    except UNREADABLE as error:
        raise Undecodable("not_json", f"not JSON: {error}") from None
    if not isinstance(members, dict):
        raise Undecodable("wrong_value", "a message is a JSON object")
    if members.setdefault("tenant_id", key.tenant_id) != key.tenant_id:
        raise Undecodable("wrong_tenant", f"the key is of the tenant {key.tenant_id}; leave `tenant_id` out")
    value = encode(members)
    message = decode_usage(value)
    if isinstance(message, CommandAck) and "guard" not in key.scopes:
        raise Undecodable("wrong_value", "only a key that may `guard` answers commands")
    if message.backfill:
        raise Undecodable("wrong_value", "`backfill` is for operators: python -m streams backfill")
    return encode(message)  # of what we do not know nothing passes: it may be somebody's text


EVENTS: Final = Source("events", read_events, plain_answer, plain_problem)
