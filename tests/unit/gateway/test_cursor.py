"""How far a system was read: what was written of the time that is asked for again is known, and no more is kept."""

from schemas.codec import encode
from schemas.duration import HOUR_MS
from streams.tools.polls.cursor import MOST_IDS, Cursor

NOW_MS = 1_790_000_000_000


def test_a_call_of_the_last_hour_is_known_and_an_older_one_is_not() -> None:
    """The hour ends with the newest call. Neither is written twice: the older one is not asked for again."""
    cursor = Cursor(until_ms=NOW_MS, ids={}).after({"a" * 32: NOW_MS - 10, "b" * 32: NOW_MS - HOUR_MS - 1}, {}, HOUR_MS)
    assert (cursor.knows("a" * 32), cursor.knows("b" * 32), cursor.until_ms) == (True, False, NOW_MS)
    later = cursor.after({"c" * 32: NOW_MS + HOUR_MS}, {}, HOUR_MS)
    assert (later.knows("a" * 32), later.knows("c" * 32), later.until_ms) == (False, True, NOW_MS + HOUR_MS)


def test_a_busy_hour_fits_into_one_record() -> None:
    """The newest calls are known; workers know the others for two hours."""
    many = {f"{number:032x}"[::-1]: NOW_MS + number for number in range(MOST_IDS + 5_000)}
    cursor = Cursor(until_ms=NOW_MS, ids={}).after(many, {}, HOUR_MS)
    assert len(cursor.ids) == MOST_IDS
    assert cursor.knows(max(many, key=many.__getitem__))
    assert len(encode(cursor)) < 1_000_000


def test_a_call_that_lasted_long_is_known_for_a_day() -> None:
    """Sweeps find it again; an earlier version's cursor, which knows of none, has no sweep look before its hour."""
    long = {"a" * 32: NOW_MS - 5 * HOUR_MS}
    cursor = Cursor(until_ms=NOW_MS, ids={}, began_ms=NOW_MS - 9 * HOUR_MS).after(long, long, HOUR_MS)
    assert cursor.knows("a" * 32)
    assert "a" * 16 not in cursor.ids
    later = cursor.after({"b" * 32: NOW_MS + 21 * HOUR_MS}, {}, HOUR_MS)
    assert (later.knows("a" * 32), later.begins_ms(HOUR_MS)) == (False, NOW_MS - 9 * HOUR_MS)
    assert Cursor(until_ms=NOW_MS, ids={}).begins_ms(HOUR_MS) == NOW_MS - HOUR_MS
