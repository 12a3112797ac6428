"""Filters of one byte a cell, in front of packed ids: which three bits of its byte stand for a hash.

A hash chooses them by its lowest six bits. 56 such triples exist, so 8 of them are used twice.
"""

from itertools import combinations
from typing import Final

import numpy as np

_TRIPLES: Final = [1 << a | 1 << b | 1 << c for a, b, c in combinations(range(8), 3)]
MASKS: Final = bytes(_TRIPLES + _TRIPLES[: 64 - len(_TRIPLES)])
MASKS_ARRAY: Final = np.frombuffer(MASKS, dtype=np.uint8)
