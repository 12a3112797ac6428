"""The shape of a tool's result: the result without what differs although nothing has changed.

Left out are times, durations, counters, ids, paths of temporary files, and white space. A loop whose every answer
carries another time stamp is seen by its shape. Two results that differ in anything else have different shapes: a
false repeat can stop a healthy run, so whatever is in doubt stays in.
"""

import json
import re
from collections.abc import Mapping

from spendfuse._hashing import plain

MAX_CHARS = 256 * 1024
"""Of a result as JSON; a longer one has no shape."""

_GONE = "\x00"
"""Stands for what was left out; not in texts that people read."""

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s?[AaPp][Mm]\b)?(?:\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})\b)?"
_UNIT = r"(?:ns|us|µs|μs|ms|msecs?|millis|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_COUNTED = (
    "attempt|retry|retries|try|tries|iteration|iter|counter|seq|sequence|pid|nonce|(?:request|trace|session)[ _-]?id"
)
_TEXT = re.compile(
    "|".join(
        (
            r"(?:/private)?/(?:tmp|var/tmp|var/folders|dev/shm)/[^\s\"'<>:;,)\]}]+",
            r"[A-Za-z]:\\(?:[^\s\\\"'<>]+\\){0,8}Te?mp\\[^\s\"'<>:;,)\]}]+",
            r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
            rf"\b\d{{4}}[-/]\d{{2}}[-/]\d{{2}}(?:[T ]{_CLOCK})?",
            rf"(?:\b{_DAY})?\b(?:\d{{1,2}}\s{_MONTH}|{_MONTH}\s{{1,2}}\d{{1,2}}),?(?:\s\d{{4}})?(?:\s{_CLOCK})?(?:\s\d{{4}})?\b",
            rf"(?<![\w.:]){_CLOCK}(?![\w:])",
            rf"(?<![\w.])\d{{1,12}}(?:[.,]\d{{1,9}})?\s?{_UNIT}\b",
            r"(?<![\w.])1\d{9}(?:\d{3}|\d{6}|\d{9})?(?:\.\d{1,9})?(?![\w.])",
            r"\b0x[0-9a-fA-F]{4,}\b",
            r"\b(?=[0-9a-fA-F]{0,127}[0-9])(?=[0-9a-fA-F]{0,127}[a-fA-F])[0-9a-fA-F]{8,128}\b",
            r"\b(?:[a-z]{2,8}[_-])?(?=[A-Za-z]{0,63}[0-9])(?=[0-9]{0,63}[A-Za-z])[A-Za-z0-9]{20,64}\b",
            rf"\b(?i:{_COUNTED})\s?(?:no\.?\s?|[:=#]\s?|\[)?\d{{1,18}}(?:\s?(?:of|/)\s?\d{{1,18}})?",
        )
    )
)
_KEY = re.compile(
    r"(?:^|[_\-.])(?:id|ids|uuid|guid|nonce|etag|pid|time|times|timestamp|ts|date|datetime|at|now|ms|ns|seconds|secs"
    r"|duration|elapsed|latency|took|runtime|uptime|age|attempt|attempts|retry|retries|iteration|counter|seq|sequence)$"
    r"|[a-z](?:Id|Ids|At|Time|Timestamp|Date|Ms|Duration|Latency)$",
    re.ASCII,
)
_SPACE = re.compile(r"\s+")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def shape_of(value: object) -> str | None:
    """Return the text of the shape, to be hashed; None if there is none to compare by.

    There is none for what is too long, for an object that JSON cannot say and whose `repr` is its address, and for what
    holds nothing but what is left out. Never raises.
    """
    try:
        whole = plain(value)
        if len(json.dumps(whole)) > MAX_CHARS:
            return None
        text = json.dumps(_shaped(_parsed(whole)), sort_keys=True, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None
    return text if any(character.isalnum() for character in text.replace("\\u0000", "")) else None


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
            return _SPACE.sub(" ", _TEXT.sub(_GONE, value)).strip()
        case Mapping():
            return {name: _GONE if _is_gone(name, item) else _shaped(item) for name, item in value.items()}
        case list():
            return [_shaped(item) for item in value]
        case _:
            return value


def _is_gone(name: str, value: object) -> bool:
    """Whether a field is a time, a duration, a counter or an id by its name; whether there is one at all remains."""
    return value is not None and not isinstance(value, (bool, list, Mapping)) and _KEY.search(name) is not None
