"""The shape of a tool's result: the result without what differs although nothing has changed.

Left out are times, durations, counters, ids, paths of temporary files, and white space. A loop whose every answer
carries another time stamp is seen by its shape. Two results that differ in anything else have different shapes: a
false repeat can stop a healthy run, so whatever is in doubt stays in.
"""

import json
import re
from collections.abc import Mapping

from spendfuse._usage.hashing import plain

VERSION = 1
"""Of what is left out: raised with every change to this module that gives any result another shape. It stands before
the hash (`1:5f0c…`), so that shapes of two versions, as from agents that are updated one by one, compare as unknown and
never as different."""
MAX_CHARS = 256 * 1024
"""Of a result as JSON; a longer one has no shape."""

GONE = "\x00"
"""Stands for what was left out; not in texts that people read."""

_SP = r"[ \t\n\r\f\v]"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?{_SP}"
_CLOCK = (
    rf"\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d{{1,9}})?)?(?:{_SP}?[AaPp][Mm]\b)?"
    rf"(?:{_SP}?(?:Z|UTC|GMT|[+-]\d{{2}}:?\d{{2}})\b)?"
)
_UNIT = (
    "(?:ns|us|\u00b5s|\u03bcs|ms|msecs?|millis|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
)
_COUNTED = (
    "attempt", "retry", "retries", "try", "tries", "iteration", "iter", "counter", "seq", "sequence", "pid", "nonce",
    "request[ _-]?id", "trace[ _-]?id", "session[ _-]?id",
)  # fmt: skip


def _any_case(words: tuple[str, ...]) -> str:
    """A pattern for the words in capitals and small letters, without a flag that not every language has."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0].upper()}{letter[0]}]", "|".join(words))


TEXT_PATTERNS = (
    r"(?:/private)?/(?:tmp|var/tmp|var/folders|dev/shm)/[^ \t\n\r\f\v\"'<>:;,)\]}]+",
    r"[A-Za-z]:\\(?:[^ \t\n\r\f\v\\\"'<>]+\\){0,8}Te?mp\\[^ \t\n\r\f\v\"'<>:;,)\]}]+",
    r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
    rf"\b\d{{4}}[-/]\d{{2}}[-/]\d{{2}}(?:[T ]{_CLOCK})?",
    rf"(?:\b{_DAY})?\b(?:\d{{1,2}}{_SP}{_MONTH}|{_MONTH}{_SP}{{1,2}}\d{{1,2}}),?(?:{_SP}\d{{4}})?(?:{_SP}{_CLOCK})?(?:{_SP}\d{{4}})?\b",
    rf"(?<![\w.:]){_CLOCK}(?![\w:])",
    rf"(?<![\w.])\d{{1,12}}(?:[.,]\d{{1,9}})?{_SP}?{_UNIT}\b",
    r"(?<![\w.])1\d{9}(?:\d{3}|\d{6}|\d{9})?(?:\.\d{1,9})?(?![\w.])",
    r"\b0x[0-9a-fA-F]{4,}\b",
    r"\b(?=[0-9a-fA-F]{0,127}[0-9])(?=[0-9a-fA-F]{0,127}[a-fA-F])[0-9a-fA-F]{8,128}\b",
    r"\b(?:[a-z]{2,8}[_-])?(?=[A-Za-z]{0,63}[0-9])(?=[0-9]{0,63}[A-Za-z])[A-Za-z0-9]{20,64}\b",
    rf"\b(?:{_any_case(_COUNTED)}){_SP}?(?:[Nn][Oo]\.?{_SP}?|[:=#]{_SP}?|\[)?\d{{1,18}}(?:{_SP}?(?:[Oo][Ff]|/){_SP}?\d{{1,18}})?",
)
"""What is left out of texts. The first that fits at a place counts. `\\w`, `\\d` and `\\b` mean ASCII, so that regular
expressions of JavaScript and these say the same; `docs/connect/wire-vectors.json` holds them for other languages.
"""
KEY_PATTERN = (
    r"(?:^|[_\-.])(?:id|ids|uuid|guid|nonce|etag|pid|time|times|timestamp|ts|date|datetime|at|now|ms|ns|seconds|secs"
    r"|duration|elapsed|latency|took|runtime|uptime|age|attempt|attempts|retry|retries|iteration|counter|seq|sequence)$"
    r"|[a-z](?:Id|Ids|At|Time|Timestamp|Date|Ms|Duration|Latency)$"
)
"""Names of fields whose value is left out."""
_TEXT = re.compile("|".join(TEXT_PATTERNS), re.ASCII)
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_SPACE = re.compile(f"{_SP}+")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def shape_of(value: object) -> str | None:
    """Return the text of the shape, to be hashed by `versioned`; None if there is none to compare by.

    There is none for what is too long, for an object that JSON cannot say and whose `repr` is its address, and for what
    holds nothing but what is left out. Never raises.
    """
    try:
        whole = plain(value)
        if len(_canonical(whole)) > MAX_CHARS:
            return None
        text = _canonical(_shaped(_parsed(whole)))
    except Exception:  # as of `hash_of`
        return None
    return text if any(character.isalnum() for character in text.replace("\\u0000", "")) else None


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def versioned(shape_hash: str) -> str:
    """Return the hash of a shape as the wire has it."""
    return f"{VERSION}:{shape_hash}"


def _parsed(value: object) -> object:
    """A result that is JSON in a text is the same as its parts."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _shaped(value: object) -> object:
    match value:
        case str():
            if value.startswith("repr:") and _ADDRESS.search(value):
                raise ValueError("an address says nothing of what is there")
            return _SPACE.sub(" ", _TEXT.sub(GONE, value)).strip(" ")
        case Mapping():
            return {name: GONE if _is_gone(name, item) else _shaped(item) for name, item in value.items()}
        case list():
            return [_shaped(item) for item in value]
        case _:
            return value


def _is_gone(name: str, value: object) -> bool:
    """Whether a field is a time, a duration, a counter or an id by its name; whether there is one at all remains."""
    return value is not None and not isinstance(value, (bool, list, Mapping)) and _KEY.search(name) is not None
