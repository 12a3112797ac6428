"""No row and no record grows with what one tenant sends: every kind of row, written by a tenant that does its worst."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from models.commands import blast_radius
from models.engine import Engine
from models.rules.policy import MOST_POLICY_BYTES, Policy, read_policy
from models.state.restore import READERS
from models.state.rows import MOST_ROW_BYTES, read_key
from models.state.seen import MOST_IN_A_ROW
from models.state.seen_rows import SEEN
from models.state.tenant import MOST_RAISED_NAMES, Raised, Tenant
from models.state.units.runs import Run
from models.state.units.unit import Grant
from models.stimuli import OperatorSeen, Ticked, UsageSeen
from schemas.codec import decode_operator, decode_usage, encode
from schemas.control import Target
from schemas.errors import PolicyError, Undecodable
from schemas.policy import BlastRadius
from schemas.usage import ATTRIBUTION
from tests.support.messages import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    MONDAY_MS,
    kill,
    limit_exception,
    llm_call,
    outcome,
    resume,
    run_finished,
    run_started,
    tool_call,
)

MOST_RECORD_BYTES = 1_048_588
"""What the topics take that people read: alerts.v1, control.v1 and others."""
ID, NAME = 128, 256
WORKFLOWS = 1_100
PERIODS = ("hour", "day", "week", "month")


def long(text: object, characters: int = NAME) -> str:
    """A text as long as is taken, of characters that have four bytes each."""
    return f"{text}".ljust(characters, "\U0001f4a5")


TENANT = long("acme", ID)


def hostile_policy() -> Policy:
    """One under which a tenant can make rows of every kind."""
    dimensions = ["tenant_id", *ATTRIBUTION, "model", "provider", "route", "tags." + long("tag 1")]
    shared = [
        {"name": f"shared-{period}", "group_by": ["tenant_id"], "period": period, "limit_usd": 20} for period in PERIODS
    ]
    return read_policy(
        {
            "budget": [
                *shared,
                {
                    "name": "one",
                    "group_by": dimensions,
                    "period": "day",
                    "limit_usd": 5,
                    "at_limit": "pause",
                    "mode": "enforce",
                },
            ],
            "cap": [
                {"name": f"cap-{per}", "per": per, "limit_usd": 1, "at_limit": "kill", "mode": "enforce"}
                for per in ("run", "session", "run_tree")
            ],
            "cycle": [{"name": "cycle", "mode": "alert"}],
            "blast_radius": {"max_kills_per_minute": 500, "always_allowed": 500},
            "include_defaults": True,
            "premium_models": ["*premium*"],
            "cost_per_accepted": [{"name": "accepted", "limit_usd": 1, "grace_hours": 168}],
            "expected_outcome": [{"name": "expected", "min_runs": 1, "min_usd": 0, "grace_hours": 168}],
            "max_workflows_per_tenant": 100_000,
        }
    )


def told(number: int, **fields: Any) -> dict[str, Any]:
    """A message's fields, each as long as it may be."""
    return {
        "tenant_id": TENANT,
        "event_id": long(f"event {number} {fields.get('run_id', '')[:20]}", ID),
        "session_id": long(f"session {number % 50}", ID),
        "root_run_id": long(f"root {number % 50}", ID),
        "parent_run_id": long(f"parent {number}", ID),
        **{name: long(f"{name} {number % 3}") for name in ATTRIBUTION},
        "tags": {long(f"tag {place}"): long(f"value {place}") for place in range(16)},
        **fields,
    }


def spend(at_ms: int) -> Iterator[Any]:
    """Runs of a thousand workflows that are stopped one after another, for sixty owners."""
    for number in range(3 * WORKFLOWS):
        yield llm_call(
            at_ms, usd=3, model=long("model"), provider=long("provider"), route=long("route"),
            **told(number, run_id=long(f"run {number}", ID), workflow=long(f"workflow {number % WORKFLOWS}"),
                   owner=long(f"owner {number % 60}")),
        )  # fmt: skip


def circles(at_ms: int) -> Iterator[Any]:
    """A run that goes round eight tools, and calls of many models that nobody can price."""
    for number in range(48):
        yield tool_call(
            at_ms + number, tool=long(f"tool {number % 8}"), args_hash="a", result_hash="b",
            **told(number, run_id=long("circle", ID)),
        )  # fmt: skip
    for number in range(20):
        yield llm_call(
            at_ms, model=long(f"model {number}"), cost_nanousd=None, cache_read_tokens=10**6,
            **told(number, run_id=long(f"unpriced {number}", ID)),
        )  # fmt: skip


def contexts(at_ms: int) -> Iterator[Any]:
    """Runs with more agents and models than are followed, of more models than a workflow is known by, that end."""
    for number in range(400):
        fields = told(number, run_id=long(f"team {number // 20}", ID), workflow=long("team"), agent=long(number % 20))
        for tokens in (10**12, 10**6, 10**12):
            yield llm_call(
                at_ms, usd=0.000001, model=long(f"model {number}"), input_tokens=tokens, cache_read_tokens=tokens // 2,
                output_tokens=10**12, **{**fields, "event_id": long(f"team {number} {tokens} {len(fields)}", ID)},
            )  # fmt: skip
    for number in range(20):
        yield run_finished(at_ms, **told(number, run_id=long(f"team {number}", ID)))


def escalations(at_ms: int) -> Iterator[Any]:
    """Runs that go on with many premium models, each for another reason or for none."""
    for number in range(60):
        who = told(number, run_id=long(f"dear {number}", ID), workflow=long("support"))
        for turn, model in enumerate(("small", f"premium {number}", f"premium {number}")):
            who["event_id"] = long(f"escalation {number} {turn}", ID)
            reason = long(f"reason {number}") if turn == 2 else None
            yield llm_call(at_ms + turn, usd=1, model=long(model), escalation_reason=reason, **who)


def results(at_ms: int, hour: int) -> Iterator[Any]:
    """Runs that announce something, cost as much as they may, and end in every hour of a week and more."""
    for number in range(3):
        who = told(number, run_id=long(f"result {hour} {number}", ID), workflow=long("results"))
        yield run_started(at_ms, expected_outcome=long("outcome"), **who)
        yield llm_call(at_ms + 1, cost_nanousd=10**15, **who)
        yield outcome(at_ms + 2, outcome=("accepted", "rejected", "edited")[number], **who)
        yield run_finished(at_ms + 3, **who)


def failures(at_ms: int) -> Iterator[Any]:
    """More agents of one run, and more failing calls of one session, than are remembered."""
    for number in range(100):
        yield tool_call(
            at_ms + number, tool=long(f"tool {number}"), args_hash="a", result_hash="b", status="error",
            **{**told(0, run_id=long(f"failing {number % 2}", ID)), "event_id": f"failure {number}",
               "agent": long(f"agent {number % 40}")},
        )  # fmt: skip


def exceptions(at_ms: int) -> Iterator[Any]:
    """More of them than a tenant's row holds."""
    for number in range(200):
        yield limit_exception(
            at_ms, long(f"rule {number}"), long(f"scope {number}"), 10**9, at_ms + DAY_MS, tenant_id=TENANT
        )


def orders(at_ms: int) -> Iterator[Any]:
    """Orders about whatever has a name, and about what has none."""
    for number in range(20):
        yield kill(at_ms, Target("run", "x" * 60_000 + str(number)), TENANT)
        yield resume(at_ms, "run", long(f"run {number}", ID), TENANT)


def ids(at_ms: int) -> Iterator[Any]:
    """More ids in one batch than a row of them has."""
    for number in range(70_000):
        yield tool_call(at_ms, tenant_id="many", run_id="r", event_id=str(number))


@cache
def written() -> tuple[Counter[str], Counter[str]]:
    """The largest row of each kind, and the largest record for each topic, in bytes with the key."""
    engine = Engine(hostile_policy(), 1)
    rows: Counter[str] = Counter()
    records: Counter[str] = Counter()

    def drain() -> None:
        for key, value in engine.drain_rows():
            kind = read_key(key)[0]
            rows[kind] = max(rows[kind], len(key) + len(value or b""))
        for effect in engine.drain_effects():
            records[effect.topic] = max(records[effect.topic], len(effect.key.encode()) + len(encode(effect.value)))

    def order(orders: Iterable[Any]) -> None:
        for one in orders:
            engine.handle(OperatorSeen(decode_operator(encode(one)), MONDAY_MS))
        drain()

    def use(messages: Iterable[Any], at_ms: int) -> None:
        for message in messages:
            engine.handle(UsageSeen(decode_usage(encode(message)), at_ms))
        engine.handle(Ticked(at_ms))
        drain()

    order(exceptions(MONDAY_MS))
    use(contexts(MONDAY_MS), MONDAY_MS)
    use(spend(MONDAY_MS), MONDAY_MS)
    use(circles(MONDAY_MS), MONDAY_MS)
    use(failures(MONDAY_MS), MONDAY_MS)
    order(orders(MONDAY_MS))
    use(ids(MONDAY_MS), MONDAY_MS)
    use(escalations(MONDAY_MS), MONDAY_MS)
    for hour in range(1, 26):
        at_ms = MONDAY_MS + hour * HOUR_MS
        use([llm_call(at_ms, usd=1, **told(hour, run_id=long(f"hourly {hour}", ID)))], at_ms)
    for hour in range(26, 26 + 40 * 24, 3):
        use(results(MONDAY_MS + hour * HOUR_MS, hour), MONDAY_MS + hour * HOUR_MS)
    return rows, records


@pytest.mark.parametrize("kind", sorted({*READERS, SEEN, "policy"}))
def test_no_row_is_too_large(kind: str) -> None:
    """With ids and names as long as they may be, many runs, owners, workflows and tags, each kind of row stays well
    under what a topic takes (1 MiB), so that no tenant can make one that stops its partition.
    """
    rows, _ = written()
    assert 0 < rows[kind] < MOST_ROW_BYTES
    assert MOST_IN_A_ROW * 8 < MOST_ROW_BYTES - 1_000  # of ids that a restore has gathered


def test_no_record_is_too_large() -> None:
    """Nor is an alert, a command or a rollup about such a tenant."""
    _, records = written()
    assert {"alerts.v1", "control.v1", "rollups.v1"} <= set(records)
    assert max(records.values()) < MOST_RECORD_BYTES / 2, records


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"run_id": "r" * (ID + 1)}, id="a long id"),
        pytest.param({"session_id": "s" * (ID + 1)}, id="a long session id"),
        pytest.param({"workflow": "w" * (NAME + 1)}, id="a long name"),
        pytest.param({"tags": {str(number): "t" for number in range(17)}}, id="many tags"),
        pytest.param({"tags": {"t" * (NAME + 1): "t"}}, id="a long tag"),
    ],
)
def test_what_would_make_a_row_grow_is_refused_where_it_comes_in(field: dict[str, Any]) -> None:
    """It is a dead letter that names the field, not a row."""
    with pytest.raises(Undecodable, match=next(iter(field))) as refused:
        decode_usage(encode(llm_call(MONDAY_MS, **field)))
    assert refused.value.reason == "wrong_value"


def test_a_policy_is_no_larger_than_its_row_may_be() -> None:
    """It is refused where it is checked and published, and in force nowhere: each partition's state has it as a row."""
    overrides = {f"tenant-{number:05}": 1 for number in range(MOST_POLICY_BYTES // 16)}
    budget = {"name": "b", "group_by": ["tenant_id"], "period": "day", "limit_usd": 1, "overrides": overrides}
    with pytest.raises(PolicyError, match=r"as JSON; at most 524,288 are taken"):
        read_policy({"budget": [budget]})
    half = dict(list(overrides.items())[: len(overrides) // 2])
    assert len(read_policy({"budget": [budget | {"overrides": half}]}).to_json()) < MOST_POLICY_BYTES


def test_the_newest_exceptions_stay() -> None:
    """Beyond what a tenant's row holds the oldest go, whether they are many or have long names."""
    tenant = Tenant("acme")
    for number in range(1_100):
        tenant.raise_limit(Raised("rule", long(f"scope {number}"), 1, MONDAY_MS), MONDAY_MS)
    assert tenant.raised[-1].scope == long("scope 1099")
    assert len(tenant.raised) == MOST_RAISED_NAMES // len("rule" + long("scope")) + 1


def test_the_newest_allowances_stay() -> None:
    """A unit's row holds as many as there are rules that could stop it, and no more."""
    run = Run("acme", "r", MONDAY_MS)
    for number in range(1_000):
        run.allow(f"rule-{number}", Grant("calls", 1, 0, "ana"))
    run.allow("rule-999", Grant("calls", 2, 0, "ana"))
    assert list(run.grants or ()) == [f"rule-{number}" for number in range(744, 1_000)]


def test_a_minute_has_so_many_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a policy allows: their times stand in the tenant's row, and what is held is given a minute later."""
    monkeypatch.setattr(blast_radius, "MOST_KILLS", 5)
    tenant, limit = Tenant("acme"), BlastRadius(max_kills_per_minute=100, always_allowed=100)
    assert [blast_radius.admit(tenant, limit, MONDAY_MS) for _ in range(7)] == [True] * 5 + [False] * 2
    assert blast_radius.admit(tenant, limit, MONDAY_MS + MINUTE_MS)
