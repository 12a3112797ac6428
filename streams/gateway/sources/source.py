"""One kind of caller: how its requests are read, and what its library takes for an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from schemas.edge.access_key import AccessKey, AccessScope
from streams.gateway.sources.batch import Batch

JSON: Final = "application/json"
Headers = Mapping[str, str]


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Source:
    """A source, for metrics and dead letters by its name.

    Args:
        name: what it is called.
        read: from headers, body and key to what is to be written. Raises `Unreadable`.
        taken: the answer once it is written.
        problem: the answer where nothing was: status, and what people should know.
        methods: how it is sent.
        signature: the header that proves who it is, for those that sign what they send and show no key.
        scope: what a key must allow.
    """

    name: str
    read: Callable[[Headers, bytes, AccessKey], Batch]
    taken: Callable[[Headers, Batch], Answer]
    problem: Callable[[Headers, int, str], Answer]
    methods: tuple[str, ...] = ("POST",)
    signature: str | None = None
    scope: AccessScope = "ingest"


def plain_answer(_: Headers, batch: Batch) -> Answer:
    """200 as soon as anything was taken, or nothing was to be; what was rejected is listed by its place."""
    rejected = [{"index": one.place, "reason": one.reason, "detail": one.detail} for one in batch.rejected]
    answer: dict[str, Any] = {"accepted": len(batch.items), "rejected": rejected}
    if batch.ignored:
        answer["ignored"] = batch.ignored
    return Answer(400 if rejected and not batch.items else 200, msgspec.json.encode(answer))


def plain_problem(_: Headers, status: int, text: str) -> Answer:
    """What went wrong, in a sentence."""
    return Answer(status, msgspec.json.encode({"error": text}))


def key_answer(key: AccessKey) -> Answer:
    """What its holder may know of a key."""
    told = {name: getattr(key, name) for name in ("key_id", "tenant_id", "scopes", "when_blind", "label")}
    return Answer(200, msgspec.json.encode(told))
