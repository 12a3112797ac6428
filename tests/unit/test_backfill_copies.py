"""What `backfill` sends again: the same event, marked, under an id that follows from it, and whose it is."""

from models.rules.policy import read_policy_toml
from schemas.codec import decode_usage, encode
from schemas.usage import LlmCall, UsageMessage
from streams.tools.backfill.backfill import plan
from streams.tools.backfill.copies import EventKey, copies_of, copy_id
from streams.tools.backfill.set_aside import Found
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, USD

POLICY = read_policy_toml('version = "1"\ntimezone = "America/New_York"')


def found(*events: UsageMessage, **left_out: int) -> Found:
    """These events came too late."""
    return Found({EventKey(one.tenant_id, one.event_id): one for one in events}, **left_out)


def test_a_copy_is_the_event_under_an_id_of_its_own() -> None:
    """The id is the same whoever makes the copy, is no other tenant's, and nothing but that and the mark is new."""
    call = messages.llm_call(MONDAY_MS, event_id="e1", usd=2, workflow="w", tags={"a": "b"}, seq=4)
    [copy] = copies_of([call]).values()
    assert copy.event_id == copy_id(EventKey("acme", "e1")) != copy_id(EventKey("other", "e1"))
    assert (copy.backfill, copy.event_id != call.event_id) == (True, True)
    expected = LlmCall(**{name: getattr(call, name) for name in call.__struct_fields__} | {
        "event_id": copy.event_id, "backfill": True,
    })  # fmt: skip
    assert copy == expected == decode_usage(encode(copy))


def test_a_start_that_came_too_late_as_well_says_whose_it_is() -> None:
    """What a call says of itself comes first; no other tenant's run is concerned; tags stay within their bound."""
    tags = {f"run-{number:02}": "r" for number in range(16)}
    start = messages.run_started(MONDAY_MS, run_id="r", workflow="w", owner="ana", tags=tags)
    own = messages.llm_call(MONDAY_MS, run_id="r", owner="ben", tags={"call": "c"})
    stranger = messages.llm_call(MONDAY_MS, run_id="r", tenant_id="other")
    mine, others = copies_of([own, stranger, start]).values()
    assert (mine.workflow, mine.owner, others.workflow) == ("w", "ben", None)
    assert mine.tags is not None
    assert (mine.tags["call"], len(mine.tags)) == ("c", 16)
    assert decode_usage(encode(mine)) == mine


def test_what_would_be_booked_is_shown_by_tenant_day_and_workflow() -> None:
    """Days are those of the policy's time zone; what has no price and what is left out is said."""
    late: list[UsageMessage] = [
        messages.llm_call(MONDAY_MS + HOUR_MS, usd=2, workflow="w"),
        messages.llm_call(MONDAY_MS + 2 * HOUR_MS, usd=3, workflow="w"),
        messages.tool_call(MONDAY_MS + DAY_MS, cost_nanousd=USD),
        messages.llm_call(MONDAY_MS + DAY_MS, model="nobody-knows-it", cost_nanousd=None),
        messages.run_finished(MONDAY_MS + DAY_MS),
    ]
    shown = plan(list(copies_of(late).values()), one := found(*late, booked=7, gone=1), POLICY)
    assert [" ".join(line.split()) for line in shown[:4]] == [
        "tenant day workflow events cost",
        "acme 2026-11-22 w 2 $5.00",
        "acme 2026-11-23 (its run's) 2 $1.00",
        "all 4 $6.00",
    ]
    assert shown[4].startswith("without a price: 1,")
    assert shown[5:8] == [
        "left out: 7 booked before",
        "left out: 1 no longer on usage.v1; book them from a recorded log (--events)",
        "left out: 1 nothing to book in them (starts, ends and answers of runs)",
    ]
    assert len(one.messages) == 5
