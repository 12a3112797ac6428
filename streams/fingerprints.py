"""Fingerprints of tool calls that others report with their text: made as our client does, and the text is gone."""

import json
from typing import Final

from spendfuse._usage.hashing import hash_of
from spendfuse._usage.shape import shape_of, versioned

NO_ARGUMENTS: Final[dict[str, object]] = {}


def args_hash(arguments: object) -> str:
    """Of the arguments, be they an object or its JSON; of no arguments (None, an empty text) as of an empty object."""
    return hash_of(NO_ARGUMENTS if arguments in (None, "") else parsed(arguments))


def result_hashes(result: object) -> dict[str, str]:
    """`result_hash`, and `result_shape_hash` if the result has a shape to compare by."""
    value = parsed(result)
    shape = shape_of(value)
    hashes = {"result_hash": hash_of(value)}
    return hashes if shape is None else hashes | {"result_shape_hash": versioned(hash_of(shape))}


def parsed(value: object) -> object:
    """What a text of JSON says, so that spaces and the order of members do not count; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
