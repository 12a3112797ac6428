"""Foreign text made harmless: names, summaries and evidence come from agents and their tools, and may be hostile.

What leaves this module is on one line, visible, and as long as was asked for. Markup is left to the receiver's own
escaping.
"""

import re
import unicodedata
from collections.abc import Iterator
from hashlib import sha256

MOST_OF_A_NAME = 120
MOST_OF_A_SENTENCE = 600
MOST_OF_A_LINE = 220

_REPLACED = "\N{REPLACEMENT CHARACTER}"
_MOST_MARKS_IN_A_ROW = 2
# Shown as nothing by most fonts, although Unicode counts them as letters, marks or symbols.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")
# They choose between shapes of the character before, and are nothing by themselves.
_SELECTORS = frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_GOES_ON_BEFORE = re.compile(r"[\w-]$|\d[.,]$")
_GOES_ON = re.compile(r"[\w-]|[.,]\d")
_MARK_DIGITS = 12
_MARKED = re.compile(rf"#[0-9a-f]{{{_MARK_DIGITS}}}$")


def clean(text: str, most: int = MOST_OF_A_NAME) -> str:
    """Foreign text on one line, without anything invisible or that moves its neighbours, visibly cut to `most`.

    Control, zero-width, direction and unassigned characters become U+FFFD; stacks of combining marks are thinned, and
    variation selectors dropped; white space of any kind becomes one space.
    """
    shown = re.sub(f"{_REPLACED}+", _REPLACED, " ".join("".join(_visible(text[: 4 * most])).split()))
    if len(shown) <= most and len(text) <= 4 * most:
        return shown
    tail = f"… ({len(text):,} characters)"
    return shown[: most - len(tail)] + tail


def name(text: str, most: int = MOST_OF_A_NAME) -> str:
    """An identifier, such as a run's: different ones stay different, whatever of them can be shown.

    One that is not shown as it is carries a hash of the whole, and so does one that looks as if it did.
    """
    shown = clean(text, most)
    if shown == text and not _MARKED.search(text):
        return shown
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_DIGITS]
    return f"{clean(text, most - _MARK_DIGITS - 2)} #{mark}".lstrip()


def names(text: str, what: str, *, at_start: bool = False) -> bool:
    """Whether a text names something, as a word or number of its own."""
    if not 0 < len(what) <= MOST_OF_A_NAME or (at_start and not text.startswith(what)):
        return False
    at = text.find(what)
    while at >= 0:
        if not _GOES_ON_BEFORE.search(text[max(0, at - 2) : at]) and not _GOES_ON.match(text, at + len(what)):
            return True
        at = -1 if at_start else text.find(what, at + 1)
    return False


def _visible(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MOST_MARKS_IN_A_ROW or character in _SELECTORS:
            continue
        if character.isspace() or category in ("Zl", "Zp"):
            yield " "
        elif character in _BLANK or not character.isprintable():
            yield _REPLACED
        else:
            yield character
