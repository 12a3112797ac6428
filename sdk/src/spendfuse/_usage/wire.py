"""The messages of `usage.v1`, as this side writes them: which fields, how long, how large.

The service refuses what breaks these bounds. Refusing it here puts the traceback where the mistake was made.
"""

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, SupportsIndex, cast

from spendfuse._client.clock import END_MS, FIRST_MS
from spendfuse._client.errors import InvalidEvent
from spendfuse._usage.money import MAX_CAP_NANOUSD, MAX_EVENT_NANOUSD

USAGE_TOPIC = "usage.v1"
CONTROL_TOPIC = "control.v1"
MAX_VALUE_BYTES = 64 * 1024
MAX_TAGS = 16

Event = dict[str, object]


class _Field(Protocol):
    def clean(self, name: str, value: object) -> object:
        """Return the value as it goes into JSON. Raises InvalidEvent."""


@dataclass(frozen=True, slots=True)
class _Text:
    max_chars: int
    min_chars: int = 0

    def clean(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidEvent(f"{name} must be a str, not {type(value).__name__}")
        if not self.min_chars <= len(value) <= self.max_chars:
            raise InvalidEvent(f"{name} must have {self.min_chars} to {self.max_chars} characters, has {len(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidEvent(f"{name} holds a lone surrogate, which UTF-8 cannot carry") from None
        return str.__str__(value)  # of a member of a `class Model(str, Enum)`, `str` is its name


@dataclass(frozen=True, slots=True)
class _Whole:
    low: int
    high: int
    hint: str = ""

    def clean(self, name: str, value: object) -> int:
        if isinstance(value, bool):
            raise InvalidEvent(f"{name} must be a whole number, not a bool")
        try:
            number = operator.index(cast("SupportsIndex", value))
        except TypeError:
            raise InvalidEvent(f"{name} must be a whole number, not {type(value).__name__}") from None
        if not self.low <= number <= self.high:
            raise InvalidEvent(f"{name} must be from {self.low} to {self.high}{self.hint}")
        return number


@dataclass(frozen=True, slots=True)
class _OneOf:
    words: tuple[str, ...]

    def clean(self, name: str, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise InvalidEvent(f"{name} must be one of {', '.join(self.words)}")
        return value


@dataclass(frozen=True, slots=True)
class _Flag:
    def clean(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise InvalidEvent(f"{name} must be a bool, not {type(value).__name__}")
        return value


@dataclass(frozen=True, slots=True)
class _Tags:
    def clean(self, name: str, value: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise InvalidEvent(f"{name} must be a mapping of str to str")
        if len(value) > MAX_TAGS:
            raise InvalidEvent(f"{name} may hold {MAX_TAGS} pairs, holds {len(value)}")
        return {
            _NAME.clean(f"a key of {name}", k): _NAME.clean(f"a value of {name}", v)
            for k, v in value.items()
            if v not in ("", None)  # says nothing, as in any other field
        }


_ID = _Text(128, min_chars=1)
_NAME = _Text(256)
_HASH = _Text(128)
_COUNT = _Whole(0, 10**12)
_MONEY = _Whole(0, MAX_EVENT_NANOUSD)
_EPOCH_MS = _Whole(0, 2**63 - 1)
_EVENT_MS = _Whole(FIRST_MS, END_MS - 1, ": epoch milliseconds, not seconds or nanoseconds")
_CALL_STATUS = _OneOf(("ok", "error", "cancelled"))

ATTRIBUTION = (
    "workflow", "owner", "project", "environment", "agent", "user", "feature", "tier", "task_category",
    "feature_flag", "prompt_version",
)  # fmt: skip
"""Whose spend it is. A run says so once, on `run_started`."""

_EVERY: dict[str, _Field] = {
    "event_id": _ID,
    "ts_ms": _EVENT_MS,
    "tenant_id": _ID,
    "run_id": _ID,
    "seq": _Whole(1, 2**63 - 1),
    "session_id": _ID,
    "root_run_id": _ID,
    "parent_run_id": _ID,
    **dict.fromkeys(ATTRIBUTION, _NAME),
    "tags": _Tags(),
    "backfill": _Flag(),
}

_OWN: dict[str, dict[str, _Field]] = {
    "llm_call": {
        "model": _NAME,
        "provider": _NAME,
        "route": _NAME,
        "input_tokens": _COUNT,
        "cache_read_tokens": _COUNT,
        "cache_write_tokens": _COUNT,
        "output_tokens": _COUNT,
        "reasoning_tokens": _COUNT,
        "cost_nanousd": _MONEY,
        "price_source": _NAME,
        "attempt": _Whole(1, 10**6),
        "status": _CALL_STATUS,
        "error_type": _NAME,
        "latency_ms": _COUNT,
        "started_ms": _EPOCH_MS,
        "prompt_hash": _HASH,
        "images": _COUNT,
        "cache_hit": _Flag(),
        "cache_write_1h_tokens": _COUNT,
        "input_audio_tokens": _COUNT,
        "output_audio_tokens": _COUNT,
        "output_image_tokens": _COUNT,
        "service_tier": _OneOf(("standard", "batch", "flex", "priority")),
        "web_searches": _COUNT,
        "fallback_from": _NAME,
        "context_reload": _Flag(),
        "escalation_reason": _NAME,
    },
    "tool_call": {
        "tool": _NAME,
        "args_hash": _HASH,
        "result_hash": _HASH,
        "status": _CALL_STATUS,
        "latency_ms": _COUNT,
        "cost_nanousd": _MONEY,
        "result_shape_hash": _HASH,
        "started_ms": _EPOCH_MS,
        "writes": _Flag(),
        "error_type": _NAME,
    },
    "run_started": {
        "expected_route": _NAME,
        "expected_outcome": _NAME,
        "cap_nanousd": _Whole(0, MAX_CAP_NANOUSD),
        "max_retries": _COUNT,
        "max_tool_calls": _COUNT,
        "max_duration_s": _COUNT,
    },
    "run_finished": {"status": _OneOf(("completed", "failed", "cancelled", "killed"))},
    "outcome": {"outcome": _OneOf(("accepted", "edited", "rejected", "escalated"))},
    "command_ack": {
        "command_id": _ID,
        "acted": _OneOf(("stopped", "paused", "resumed", "downgraded", "already_finished", "ignored", "delivered")),
        "denied_by": _NAME,
    },
}

FIELDS: dict[str, dict[str, _Field]] = {kind: {**_EVERY, **own} for kind, own in _OWN.items()}
"""Message type -> its fields."""

REQUIRED: dict[str, tuple[str, ...]] = {
    kind: ("event_id", "ts_ms", "tenant_id", "run_id", *own)
    for kind, own in {
        "llm_call": ("model",),
        "tool_call": ("tool",),
        "run_started": (),
        "run_finished": ("status",),
        "outcome": ("outcome",),
        "command_ack": ("command_id", "acted"),
    }.items()
}


def checked(event: Mapping[str, object]) -> Event:
    """Return the event without its None fields, each value of the contract's type and within its bounds.

    An empty text in a field that may be left out is one that nobody has set, and is left out too.

    Raises InvalidEvent. A field the contract does not know is refused, so that no text slips out under a new name.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise InvalidEvent(f"type must be one of {', '.join(FIELDS)}")
    known = FIELDS[kind]
    clean: Event = {"type": kind}
    for name, value in event.items():
        if name == "type" or value is None:
            continue
        field = known.get(name)
        if field is None:
            raise InvalidEvent(f"a {kind} has no field {str(name)[:40]!r}; it has {', '.join(known)}")
        if value == "" and isinstance(field, _Text | _OneOf) and name not in REQUIRED[kind]:
            continue
        clean[name] = field.clean(name, value)
    missing = [name for name in REQUIRED[kind] if name not in clean]
    if missing:
        raise InvalidEvent(f"a {kind} needs {', '.join(missing)}")
    return clean


def encoded(event: Event, *, max_bytes: int = MAX_VALUE_BYTES) -> tuple[bytes, bool]:
    """Return the event's JSON in UTF-8, and whether its tags had to go to make it fit.

    Raises InvalidEvent when it is larger than `max_bytes` even without tags.
    """
    value = _json(event)
    if len(value) <= max_bytes:
        return value, False
    value = _json({name: field for name, field in event.items() if name != "tags"})
    if len(value) > max_bytes:
        raise InvalidEvent(f"the event takes {len(value)} bytes, {max_bytes} are allowed: shorten its names")
    return value, "tags" in event


def _json(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
