"""What a row gives back is what was written, to the type: compiled code takes no list for a tuple."""

from collections.abc import Iterator
from random import Random
from typing import Any

from models.engine import Engine
from models.state.rows import Row, read_fields, row_key, row_value
from tests.support.histories import Changelog, Make, each_case, reborn


def rows_in(engine: Engine) -> Iterator[Row]:
    """Every row of an engine but those of what sleeps, which is kept as bytes."""
    for tenant in engine._state.tenants.values():
        yield tenant
        yield from (run for run_id in tenant.runs if (run := tenant.run(run_id)) is not None)
        for kept in (tenant.sessions, tenant.trees, tenant.totals, tenant.cohorts, tenant.results):
            yield from kept.values()
        yield from (scope for scope in tenant.scopes.values() if not scope.is_new)
        yield from (past for cohort in tenant.cohorts.values() for past in cohort.models.values())
        for judged in (tenant.incidents, tenant.commands, tenant.held, tenant.escalations, tenant.failing):
            yield from judged.values()


def typed(value: Any) -> Any:
    """A value with the type of each of its parts."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    return type(value), value


@each_case
def test_a_row_gives_back_the_types_it_was_written_from(make: Make) -> None:
    """In the middle of every history, whatever the rules: tuples are tuples again, and flags are flags."""
    case = make()
    engine = Engine(case.policy)
    for stimulus in case.stimuli[: len(case.stimuli) // 2]:
        engine.handle(stimulus)
    written = {row_key(row): typed(row.fields()) for row in rows_in(engine)}
    restored = reborn(engine, Changelog(), engine.policy, Random(1))
    read = {row_key(row): typed(row.fields()) for row in rows_in(restored)}
    assert read.keys() == written.keys()
    assert not [(key, written[key], fields) for key, fields in read.items() if fields != written[key]][:1]


@each_case
def test_what_is_kept_packed_is_what_is_known(make: Make) -> None:
    """The periods of a scope, which its rows hold as they were packed last, at the end of every history."""
    case = make()
    engine = Engine(case.policy)
    for number, stimulus in enumerate(case.stimuli):
        engine.handle(stimulus)
        if not number % 5:
            engine.drain_rows()
    scopes = [scope for tenant in engine._state.tenants.values() for scope in tenant.scopes.values()]
    for scope in scopes:
        _, _, _, packed, *_ = read_fields(row_value(scope))
        assert packed == {period: list(spend.fields()) for period, spend in scope.periods.items()}, scope.key


def test_a_type_that_is_lost_is_seen() -> None:
    """A list in place of a tuple, however deep, and a number in place of a flag."""
    assert typed({"a": [(1, "b")]}) == typed({"a": [(1, "b")]})
    assert typed({"a": [(1, "b")]}) != typed({"a": [[1, "b"]]})
    assert typed((True,)) != typed((1,))
