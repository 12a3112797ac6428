"""What a forked child does with what its parent made.

A child has its parent's memory but none of its threads, and each lock as somebody happened to hold it. So whatever has
a lock or a thread is told in the child, before anything else runs there, and begins anew when it is next used. What
librdkafka made is left alone for ever: freed in the child, it waits for threads that are not there, and crashes.
"""

import ctypes
import os
import weakref
from collections.abc import Callable
from multiprocessing import parent_process, util
from typing import Protocol, TypeVar

T = TypeVar("T")


class Forkable(Protocol):
    """What must know that it is in a forked child."""

    def forked(self) -> None:
        """Called in the child, in its only thread: replace locks, forget threads, start nothing."""


_FORKABLE: "weakref.WeakSet[Forkable]" = weakref.WeakSet()


def tell_of_forks(thing: Forkable) -> None:
    """Call `thing.forked()` in every child that is forked from now on, for as long as the thing exists."""
    _FORKABLE.add(thing)


def at_end_of_children(thing: T, end: Callable[[T], object]) -> None:
    """Call `end(thing)` when a child of multiprocessing ends, a pool's or an executor's too.

    Such a child ends by `os._exit`, which calls nothing that is registered with `atexit`.
    """

    def when_it_ends(of_child: T) -> None:
        util.Finalize(None, end, (of_child,), exitpriority=0)

    util.register_after_fork(thing, when_it_ends)
    if parent_process() is not None:  # this is one, and has begun already
        when_it_ends(thing)


def never_free(thing: object) -> None:
    """Keep an object from being freed, at the end of the interpreter too."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _tell() -> None:
    for thing in list(_FORKABLE):
        thing.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_tell)
