"""`dlq`: what nobody could read, by reason and source, and what to do about it."""

import json
from typing import Any, get_args

import pytest

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from schemas.dead_letter import DeadLetter, Reason
from schemas.duration import HOUR_MS
from streams.__main__ import main
from streams.clock import wall_ms
from streams.tools.inspection.dead_letters import ADVICE, MOST_SHOWN, grouped, letter_lines
from tests.support.facts import NOW_MS
from tests.support.kafka import Record, produce


def letter(offset: int, **fields: Any) -> DeadLetter:
    """A dead letter of acme's, whose cost was text."""
    given: dict[str, Any] = {
        "topic": "usage.v1", "partition": 3, "offset": offset, "key": "acme", "reason": "wrong_value",
        "detail": "Expected `int | null`, got `str` - at `$.cost_nanousd`", "sha256": "", "size_bytes": 9,
        "head_base64": "", "ts_ms": NOW_MS + offset,
    }  # fmt: skip
    return DeadLetter(**(given | fields))


def test_dead_letters_are_grouped_by_reason_and_source() -> None:
    """A producer's thousand faults are one entry: how many, where, until when, what is wrong, what to do."""
    letters = [letter(offset) for offset in (7, 1204, 5)] + [letter(9, key=None, ts_ms=NOW_MS)]
    first, second = grouped(letters)
    assert letter_lines(first) == [
        "wrong_value    3 records of usage.v1, partition 3, key acme",
        "               offsets 5 to 1204, last Mon 23 Nov 2026, 00:00:01 UTC",
        "               Expected `int | null`, got `str` - at `$.cost_nanousd`",
        "               Have its producer mend that field; schemas/examples has good",
        "               ones. Sent again, events count once.",
    ]
    assert letter_lines(second)[:2] == [
        "wrong_value    1 record of usage.v1, partition 3, no key",
        "               offset 9, last Mon 23 Nov 2026, 00:00:00 UTC",
    ]


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_says_what_to_do(reason: Reason) -> None:
    """And whole, within a terminal's width, whatever the key is."""
    long = "\x1b[31m" + "x" * 251
    lines = letter_lines(grouped([letter(10**12, reason=reason, key=long, topic=long, detail="word " * 40)])[0])
    assert " ".join(line.strip() for line in lines).endswith(ADVICE[reason])
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "\n".join(lines)


def test_what_is_on_the_topic_is_listed(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a broker: none is said, the newest sources are shown, all of them as data, of a time if asked."""
    embedded.create_topics("", 2)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    assert main(["dlq"]) == 0
    assert capsys.readouterr().out == "no dead letters\n"
    now_ms = wall_ms()
    old = [letter(1, key=f"producer-{number}", ts_ms=now_ms - 3 * HOUR_MS - number) for number in range(MOST_SHOWN)]
    records = [Record(encode(one), b"acme", (), now_ms, 0) for one in (*old, letter(2, ts_ms=now_ms))]
    produce(embedded.bootstrap, "usage.dlq.v1", [*records, Record(b"{", b"acme", (), now_ms, 0)])
    assert main(["dlq"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("21 dead letters, by reason and source, the newest first\n\nwrong_value    1 record of")
    assert listed.endswith("\n… and 1 more groups; --json shows them all\n")
    assert main(["dlq", "--json", "--since", "2h"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert {name: json.loads(line)[name] for name in ("reason", "topic", "partition", "key", "count")} == {
        "reason": "wrong_value", "topic": "usage.v1", "partition": 3, "key": "acme", "count": 1,
    }  # fmt: skip
