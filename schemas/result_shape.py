"""The hash of a result's shape as usage.v1 has it: `1:5f0c…`, the version of what was left out before the hash.

What is left out is said once, in the client (`spendfuse._shape`), and as data in `docs/connect/wire-vectors.json` for
clients in other languages. Whoever makes shapes for agents that have no client, such as a gateway, imports it from
there. Here they are only compared, and only within a version.
"""

from typing import Final

VERSION_BITS: Final = 3


def version_of(shape_hash: bytes) -> int:
    """The version in so many bits, so that seven in a row are told apart; 0 for a hash without one."""
    return shape_hash[0] & 7 if shape_hash[1:2] == b":" else 0
