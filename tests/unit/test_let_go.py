"""A partition that is let go is gone: the worker runs without the collector, and has to give back what it drops."""

from collections.abc import Iterator
from random import Random

from models.detectors import REGISTRY
from models.engine import Engine
from models.rules.policy import Policy, read_policy, read_policy_json
from models.state.restore import READERS
from models.state.rows import read_key
from models.state.seen_rows import SEEN
from models.state.tenant import OVERFLOW_TENANT
from models.stimuli import CommandForged, PolicyChanged, RecordMoved, RecordRefused, Stimulus, UsageSeen
from schemas.codec import dead_letter
from schemas.control import Target
from schemas.errors import Undecodable
from tests.support.histories import CASES, Case, Changelog, Make, each_case, reborn
from tests.support.leftovers import leftovers
from tests.support.messages import MONDAY_MS, llm_call

SEED = 20_261_127


def lived(case: Case) -> Changelog:
    """Two thirds of a case, and the rest after a restart, in engines that are let go; the rows of the last."""
    engine, changelog = Engine(own(case.policy)), Changelog()
    for number, stimulus in enumerate([*happened(case), *mishaps()]):
        if number == len(case.stimuli) * 2 // 3:
            engine = reborn(engine, changelog, engine.policy, Random(SEED))
        engine.handle(stimulus)
        engine.drain_effects()
    changelog.take(engine.drain_rows())
    return changelog


def happened(case: Case) -> Iterator[Stimulus]:
    """What happens in a case, under policies that nobody else has: they remember windows of time."""
    for stimulus in case.stimuli:
        if isinstance(stimulus, PolicyChanged):
            yield stimulus._replace(policy=own(stimulus.policy))
        else:
            yield stimulus


def own(policy: Policy) -> Policy:
    return read_policy_json(policy.to_json())


def mishaps(tenant_id: str = "acme") -> list[Stimulus]:
    """What only happens when somebody does something wrong."""
    letter = dead_letter("usage.v1", 0, 1, tenant_id.encode(), b"{", Undecodable("not_json", "no end"), MONDAY_MS)
    return [
        RecordRefused(letter, tenant_id),
        RecordMoved(tenant_id, "r1", had_key=False),
        CommandForged(tenant_id, Target("run", "r1"), "has deleted a command", "forged/"),
    ]


@each_case
def test_nothing_is_left_of_an_engine(make: Make) -> None:
    """Whatever happened, an engine and the one made from its rows are gone when nobody holds them any more."""
    case = make()
    found = leftovers(lambda: lived(case))
    assert not found, found


def test_the_histories_have_everything_that_could_be_left() -> None:
    """Rows and rules of every kind: what no history has, the test above would not find."""
    cases: list[Case] = [param.values[0]() for param in CASES]  # type: ignore[operator]  # pytest types values as objects
    kinds = {read_key(key)[0] for case in cases for key in lived(case).rows}
    rules = {type(rule) for case in cases for rule in case.policy.rules.values()}
    assert kinds >= {*READERS, SEEN}
    assert rules == set(REGISTRY.values())


def test_nothing_is_left_of_tenants_beyond_the_limit() -> None:
    """Nor of those that are too many and count as one."""

    def live() -> None:
        engine = Engine(read_policy({"max_tenants_per_partition": 2}))
        for number in range(5):
            engine.handle(UsageSeen(llm_call(MONDAY_MS + number, tenant_id=f"t{number}"), MONDAY_MS + number))
        assert OVERFLOW_TENANT in engine.tenants

    found = leftovers(live)
    assert not found, found
