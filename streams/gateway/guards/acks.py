"""`POST /v1/control/{command_id}/ack`: a guard in any language says what its run did about a command."""

from functools import partial
from typing import Literal

import msgspec
from spendfuse import ack_id

from schemas.codec import UNREADABLE, decode_usage, encode
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from schemas.usage import CommandAck, EpochMs, Id, Name
from streams.clock import wall_ms
from streams.gateway.sources.batch import Batch, Item, Unreadable
from streams.gateway.sources.source import Headers, Source, plain_answer, plain_problem


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """The body."""

    run_id: Id
    acted: Literal["stopped", "paused", "resumed", "downgraded", "already_finished", "ignored", "delivered"]
    session_id: Id | None = None
    root_run_id: Id | None = None
    denied_by: Name | None = None
    ts_ms: EpochMs | None = None


def acks_of(command_id: str) -> Source:
    """The source of answers to that command."""
    return Source("acks", partial(read_ack, command_id), plain_answer, plain_problem, scope="guard")


def read_ack(command_id: str, _: Headers, body: bytes, key: AccessKey) -> Batch:
    """The answer as a message. Its id follows from run and command, so that saying it twice counts once.

    Raises:
        Unreadable: it is none.
    """
    try:
        said = msgspec.json.decode(body, type=_Said)
        ack = CommandAck(
            event_id=ack_id(key.tenant_id, said.run_id, command_id),
            ts_ms=wall_ms() if said.ts_ms is None else said.ts_ms,
            tenant_id=key.tenant_id,
            run_id=said.run_id,
            session_id=said.session_id,
            root_run_id=said.root_run_id,
            command_id=command_id,
            acted=said.acted,
            denied_by=said.denied_by,
        )
        value = encode(ack)
        decode_usage(value)
    except (*UNREADABLE, Undecodable) as error:
        raise Unreadable(f"not an answer to a command: {error}") from None
    return Batch([Item(key.tenant_id, value)])
