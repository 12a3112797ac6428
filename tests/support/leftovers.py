"""What is left of objects that were let go: by reference cycles, which only the collector finds, or because somebody
still holds them. The worker runs without the collector, so both are for good.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from models.rules.levels import Level

OURS = ("models", "schemas", "streams")
REMEMBERED = (Level,)
"""What the process remembers whoever asked for it, within bounds."""
MOST_STEPS = 40


@contextmanager
def without_collector() -> Iterator[None]:
    """Within the block nothing goes but by reference count, as in the worker."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leftovers(live: Callable[[], object]) -> str:
    """What is left of ours once `live` has been called and its result let go; empty if nothing is.

    Says how many of each class, and how the first of them is held. What is `REMEMBERED` for good is no leftover.
    """
    with without_collector():
        gc.freeze()  # what was there before is not listed: to look through a million objects takes longer than to live
        try:
            live()
            left = list(_ours(gc.get_objects()))
        finally:
            gc.unfreeze()
        return _said(left) if left else ""


def living(kind: type) -> int:
    """How many objects of exactly this class there are."""
    return sum(type(one) is kind for one in gc.get_objects())


def _ours(found: Iterable[object]) -> Iterator[object]:
    return (
        one for one in found if str(type(one).__module__).partition(".")[0] in OURS and not isinstance(one, REMEMBERED)
    )


def _said(left: list[Any]) -> str:
    counts = Counter(_name(one) for one in left)
    lines = [f"{number} {name}" for name, number in counts.most_common()]
    return "\n".join(["left behind:", *lines, "held like this:", *_held(left)])


def _held(left: list[Any]) -> Iterator[str]:
    """From the first of what is left, who holds it and who holds that, until somebody stands there again."""
    one, seen = left[0], set[int]()
    for _ in range(MOST_STEPS):
        yield _name(one)
        if id(one) in seen or isinstance(one, ModuleType):
            return
        seen.add(id(one))
        one = next((each for each in gc.get_referrers(one) if id(each) != id(left) and not _is_looking(each)), None)
        if one is None:
            return
    yield "…"


def _is_looking(holder: object) -> bool:
    """Whether a frame of this module, or what it looks with, holds it."""
    code = getattr(holder, "f_code", None) or getattr(holder, "gi_code", None)
    return code is not None and code.co_filename == __file__


def _name(one: object) -> str:
    if isinstance(one, ModuleType):
        return f"module {one.__name__}"
    kind = type(one)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
