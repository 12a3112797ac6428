"""The messages of `control.v1`, as this side reads them: bytes in, a checked command or a reason out; and who reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol
from urllib.parse import quote

ACTIONS = frozenset(("kill", "pause", "resume", "downgrade", "nudge"))
TARGET_TYPES = frozenset(("run", "session", "run_tree", "workflow", "tenant", "scope"))
MAX_COMMAND_BYTES = 64 * 1024
_MAX_INT = 2**63 - 1
DENIAL = "forged/"
ALL_TENANTS = "spendfuse/all-tenants"
"""The tenant of a command to a scope in which the runs of every tenant are."""

Target = tuple[str, str]
"""Type and id."""
Scope = dict[str, frozenset[str]]
"""Dimension -> its allowed values."""


class Malformed(Exception):
    """The record is no command; the text says why without quoting it."""


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """One record of the control topic. A `value` of None is a tombstone."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    place: tuple[int, int] | None = None
    """Partition and offset, where it comes from a log that has them."""


class ControlFeed(Protocol):
    """Reads the whole control topic, oldest first, and knows how fresh its knowledge is. One thread calls it."""

    def poll(self, timeout_s: float) -> Sequence[ControlRecord]:
        """Return the next records, waiting at most `timeout_s` for the first. Never raises for broker trouble."""

    def fresh_at_s(self) -> float | None:
        """The latest `time.monotonic()` at which everything then on the topic is known to have been returned by now.

        None until the topic has been read through for the first time.
        """

    def waiting_for(self) -> str | None:
        """What keeps it from having read the topic through, for people; None if nothing does."""

    def close(self) -> None:
        """Stop reading."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an agent must do, for as long as `expires_ms` lies ahead. `seq` rises per target, of nudges by itself.

    A nudge is nothing that must be done: its `reason` is a sentence for the model of one run.
    `scope` is set for targets of the type `scope`, and only there; a resume may leave it out.
    """

    command_id: str
    action: str
    tenant_id: str
    target: Target
    seq: int
    issued_ms: int
    expires_ms: int
    reason: str
    rule: str | None
    incident_id: str | None
    scope: Scope | None = None
    denies: str | None = None
    """The SHA-256, in hexadecimal, of a forged record that this command answers."""

    @property
    def is_for_all(self) -> bool:
        """Whether it is about the runs of every tenant."""
        return self.tenant_id == ALL_TENANTS


def key_check_tenant(value: bytes) -> str | None:
    """Return the tenant whose key check a record's value is; None for anything else."""
    if b'"key_check"' not in value:
        return None
    try:
        body = json.loads(value)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(body, dict) and body.get("type") == "key_check"
    return body["tenant_id"] if is_one and isinstance(body.get("tenant_id"), str) else None


def record_key(tenant_id: str, target: Target) -> bytes:
    """Return the key under which the last command for a target stands: its parts percent-encoded, joined by `/`."""
    return f"{quote(tenant_id, safe='')}/{quote(target[0], safe='')}/{quote(target[1], safe='')}".encode()


def parse(value: bytes) -> Command:
    """Return the command in a record's value. Raises Malformed; unknown fields are ignored."""
    if len(value) > MAX_COMMAND_BYTES:
        raise Malformed("larger than 64 KiB")
    try:
        body = json.loads(value.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Malformed("not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise Malformed("not a JSON object")
    target = body.get("target")
    if not isinstance(target, dict):
        raise Malformed("target is not an object")
    target_type = _one_of(target, "type", TARGET_TYPES)
    action = _one_of(body, "action", ACTIONS)
    if action == "nudge" and target_type != "run":
        raise Malformed("a nudge is for a run")
    return Command(
        command_id=_text(body, "command_id"),
        action=action,
        tenant_id=_text(body, "tenant_id"),
        target=(target_type, _text(target, "id")),
        seq=_whole(body, "seq"),
        issued_ms=_whole(body, "issued_ms"),
        expires_ms=_whole(body, "expires_ms"),
        reason=_maybe_text(body, "reason") or "no reason given",
        rule=_maybe_text(body, "rule"),
        incident_id=_maybe_text(body, "incident_id"),
        denies=_denied(body),
        scope=_scope(body, needed=action != "resume") if target_type == "scope" else None,
    )


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError


def _text(body: dict[str, object], name: str) -> str:
    value = _maybe_text(body, name)
    if not value:
        raise Malformed(f"{name} is missing")
    return value


def _maybe_text(body: dict[str, object], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{name} is not text")
    return value


def _denied(body: dict[str, object]) -> str | None:
    cause = _maybe_text(body, "cause_event_id") or ""
    return cause.removeprefix(DENIAL) if cause.startswith(DENIAL) else None


def _one_of(body: dict[str, object], name: str, words: frozenset[str]) -> str:
    word = _text(body, name)
    if word not in words:
        raise Malformed(f"{name} is none of {', '.join(sorted(words))}")
    return word


def _whole(body: dict[str, object], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INT:
        raise Malformed(f"{name} is not a whole number in range")
    return value


def _scope(body: dict[str, object], *, needed: bool) -> Scope | None:
    given = body.get("scope")
    if given is None and not needed:
        return None
    if not isinstance(given, dict):
        raise Malformed("scope is not an object")
    scope: Scope = {}
    for dimension, values in given.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise Malformed("a dimension of the scope has no list of texts")
        scope[dimension] = frozenset(values)
    return scope
