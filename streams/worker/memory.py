"""Memory that was freed goes back to the system, where the C library can be told to."""

import ctypes
from typing import Final

_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc has it; elsewhere the library gives back what it thinks right."""


def return_freed() -> None:
    """Return what is free to the system, wherever in the heap it lies.

    The threads of a client allocate from heaps of their own (glibc's arenas), and every client that reads a changelog
    leaves one behind full of holes: without this a process grows with every restore, until all have been that large.
    """
    if _TRIM is not None:
        _TRIM(0)
