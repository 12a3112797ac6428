"""How far a system was read: what was written of the time that is asked for again is known, and no more is kept."""

from schemas.codec import encode
from schemas.duration import HOUR_MS
from streams.tools.polls.cursor import MOST_IDS, Cursor

NOW_MS = 1_790_000_000_000


def test_a_call_of_the_last_hour_is_known_and_an_older_one_is_not() -> None:
    """The hour ends with the newest call. Neither is written twice: the older one is not asked for again."""
    cursor = Cursor(until_ms=NOW_MS, ids={}).after({"a" * 32: NOW_MS - 10, "b" * 32: NOW_MS - HOUR_MS - 1}, HOUR_MS)
    assert (cursor.knows("a" * 32), cursor.knows("b" * 32), cursor.until_ms) == (True, False, NOW_MS)
    later = cursor.after({"c" * 32: NOW_MS + HOUR_MS}, HOUR_MS)
    assert (later.knows("a" * 32), later.knows("c" * 32), later.until_ms) == (False, True, NOW_MS + HOUR_MS)


def test_a_busy_hour_fits_into_one_record() -> None:
    """The newest calls are known; workers know the others for two hours."""
    many = {f"{number:032x}"[::-1]: NOW_MS + number for number in range(MOST_IDS + 5_000)}
    cursor = Cursor(until_ms=NOW_MS, ids={}).after(many, HOUR_MS)
    assert len(cursor.ids) == MOST_IDS
    assert cursor.knows(max(many, key=many.__getitem__))
    assert len(encode(cursor)) < 1_000_000
