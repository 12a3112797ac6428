"""Text for a terminal of 80 columns. What is foreign is made harmless on the way."""

import sys
from collections.abc import Iterable
from itertools import pairwise
from shlex import quote
from textwrap import wrap

from alerting.rendering.foreign import MOST_OF_A_SENTENCE, clean
from schemas.errors import SettingsError

WIDTH = 80
SHORTEST_ID = 8
_CUT = " …"


def entry(label: str, text: str, most_lines: int = 2, *, indent: int = 8) -> list[str]:
    """A text beside its label, in at most so many lines; what goes beyond is cut off visibly.

    >>> entry("why", "spent $5.01")
    ['why     spent $5.01']
    """
    lines = wrap(
        clean(text, MOST_OF_A_SENTENCE),
        WIDTH - indent,
        max_lines=most_lines,
        placeholder=_CUT,
        break_on_hyphens=False,
    )
    return [f"{label if not at else '':<{indent}}{line}" for at, line in enumerate(lines)]


def clipped(text: str, most: int = WIDTH) -> str:
    """A line of at most so many characters.

    >>> clipped("one two", 5)
    'one …'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def shell_word(text: str) -> str:
    r"""A text as a word to type in a shell, where no invisible character shows as itself.

    >>> print(shell_word("run-1"), shell_word("run 1"), shell_word(chr(27) + "b"))
    run-1 'run 1' $'\x1bb'
    """
    if text.isprintable():
        return quote(text)
    escaped = text.encode("unicode_escape").decode().replace("'", "\\'")
    return f"$'{escaped}'"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Each id with its shortest beginning that is no other's, of at least eight characters.

    >>> short_ids(["4f2d9c01aa", "4f2d9c01bb", "77"])
    {'4f2d9c01aa': '4f2d9c01a', '4f2d9c01bb': '4f2d9c01b', '77': '77'}
    """
    ordered = sorted(set(ids))
    shared = [_alike(one, other) for one, other in pairwise(ordered)]
    needed = [max(pair) + 1 for pair in zip([0, *shared], [*shared, 0], strict=True)]
    return {each: each[: max(SHORTEST_ID, length)] for each, length in zip(ordered, needed, strict=False)}


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def confirm(meant: str) -> None:
    """Have whoever sits there say that what they have just read is meant.

    Raises:
        SettingsError: they do not, or nobody sits there and the option `meant` would have had to say it.
    """
    if not sys.stdin.isatty():
        raise SettingsError(f"nothing was changed. If that is meant, add {meant}")
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SettingsError("nothing was changed")
