"""Integers as rows hold them: at the smallest width that holds them all, whatever came and went before."""

from random import Random

import pytest

from models.baselines.packing import Integers, pack_integers, unpack_integers

SIZES = (1, 1 << 8, 1 << 16, 1 << 32, 1 << 62)


@pytest.mark.parametrize("kept", [1, 5, 40])
def test_a_list_is_packed_as_if_it_had_always_been_what_it_is(kept: int) -> None:
    """After each that comes and each that goes: a row follows from what is known, never from what was."""
    draw, integers, known = Random(kept), Integers(), list[int]()
    for _ in range(400):
        if len(known) == kept:
            assert integers.pop() == known.pop(0), f"seed {kept}"
        value = draw.randrange(draw.choice(SIZES))
        integers.append(value)
        known.append(value)
        assert list(integers.values) == known, f"seed {kept}"
        assert integers.packed() == pack_integers(known) == Integers(known).packed(), f"seed {kept}"
        assert unpack_integers(integers.packed(), 0, len(known))[0] == tuple(known), f"seed {kept}"


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_what_no_width_holds_is_refused(value: int) -> None:
    """And leaves the list as it was."""
    integers = Integers((1, 2))
    with pytest.raises(OverflowError):
        integers.append(value)
    assert list(integers.values) == [1, 2]
