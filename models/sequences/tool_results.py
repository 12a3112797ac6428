"""What is remembered of a tool's result: enough to tell whether the next one is the same, in full or in shape."""

from typing import Final

import xxhash

from schemas.usage import SHAPE_VERSION_BITS, shape_version

HASH_BYTES: Final = 3
RESULT_BYTES: Final = 2 * HASH_BYTES
"""24 bits each of the hash of the result and of its shape, of these 3 for the version of the shape."""
_REST: Final = 0xFF >> SHAPE_VERSION_BITS
"""Bits of a shape's first byte that are none of its version's."""
_BYTES: Final = tuple(bytes((one,)) for one in range(256))
NO_HASH: Final = bytes(HASH_BYTES)
NO_RESULT: Final = bytes(RESULT_BYTES)


def result_hashes(exact: str | None, shape: str | None) -> bytes:
    """What is remembered of a result: the hash of it all and that of its shape, zeros for unknown."""
    return (NO_HASH if exact is None else xxhash.xxh3_64_digest(exact.encode())[:HASH_BYTES]) + (
        NO_HASH if shape is None else _shape(shape)
    )


def _shape(shape: str) -> bytes:
    """The hash of a shape's hash, its first bits those of the version."""
    digest = xxhash.xxh3_64_digest(shape.encode())
    return _BYTES[digest[0] & _REST | shape_version(shape) << 8 - SHAPE_VERSION_BITS] + digest[1:HASH_BYTES]


def same_result(one: bytes, other: bytes) -> bool | None:
    """Whether two results are the same, in full or in shape; None if nothing says so or otherwise.

    Without one kind of hash the other decides. Shapes of two versions are neither the same nor different: results that
    differ in full are then an unknown, not progress.
    """
    if one == other:
        return None if one == NO_RESULT else True
    mine, theirs = one[:HASH_BYTES], other[:HASH_BYTES]
    if NO_HASH not in (mine, theirs) and mine == theirs:
        return True
    shape, their_shape = one[HASH_BYTES:], other[HASH_BYTES:]
    if NO_HASH not in (shape, their_shape):
        return shape == their_shape if shape[0] | _REST == their_shape[0] | _REST else None
    return None if NO_HASH in (mine, theirs) else False
