"""Thousands of incidents at once: nobody else's page waits for them, none is lost, and receivers' own limits hold."""

from itertools import pairwise

from schemas.alert import Alert
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, World, alert

MANY = 600


def storm_of(kind: str, **settings: str) -> World:
    """All runs of one tenant are stopped by one rule, and some seconds later one of another tenant by another."""
    world = World({"receivers": {"team": {"type": kind, **settings}}, "route": [{"receivers": ["team"]}]})
    for number in range(MANY):
        world.alert(run(number))
    world.after(5 * SECOND_MS)
    world.alert(alert("other", tenant_id="umbrella", rule="secrets", at_ms=world.now_ms))
    return world


def run(number: int) -> Alert:
    return alert(f"run-{number:03}", rule="cap", run_id=f"run-{number:03}", at_ms=NOON_MS)


def pager_storm() -> World:
    return storm_of("pagerduty", key_env="K")


def told(world: World) -> list[tuple[int, str]]:
    """When each incident was told, in order."""
    return [(at_ms, each.incident_id) for at_ms, send in world.arrived for each in send.notice.alerts]


def test_a_storm_hides_no_other_page() -> None:
    """It went behind all that had waited longer: with 5,000 incidents PagerDuty heard of it after twenty minutes."""
    world = pager_storm()
    world.after(HOUR_MS)
    [heard_ms] = [at_ms for at_ms, incident in told(world) if incident == "other"]
    assert heard_ms <= NOON_MS + 10 * SECOND_MS
    assert len({incident for _, incident in told(world)}) == len(told(world)) == MANY + 1


def test_a_pager_is_sent_no_more_a_minute_than_it_takes() -> None:
    """What is beyond is refused there, and was tried again later and later while the circuit opened."""
    world = pager_storm()
    world.after(HOUR_MS)
    begun = [at_ms for at_ms, _ in world.asked]
    assert max(sum(start <= at_ms < start + MINUTE_MS for at_ms in begun) for start in begun) <= 100
    assert begun[99] - begun[0] < 30 * SECOND_MS, "the first hundred go as fast as ever"
    assert len(world.asked) == MANY + 1


def test_a_channel_reads_of_what_is_rare_alone_and_soon() -> None:
    """The storm is listed in full, ten a message; the other incident has a message of its own, with its buttons."""
    world = storm_of("slack", channel="#c")
    world.after(HOUR_MS)
    [(heard_ms, send)] = [(at_ms, one) for at_ms, one in world.arrived if one.notice.alert.incident_id == "other"]
    assert (len(send.notice.alerts), heard_ms <= NOON_MS + 10 * SECOND_MS) == (1, True)
    assert len({incident for _, incident in told(world)}) == len(told(world)) == MANY + 1
    assert all(later - earlier >= SECOND_MS for (earlier, _), (later, _) in pairwise(world.arrived))


def test_many_tenants_at_once_are_a_storm_too() -> None:
    """Each has one incident: in messages of their own they would take as many minutes as there are dozens."""
    world = World({"receivers": {"team": {"type": "slack", "channel": "#c"}}, "route": [{"receivers": ["team"]}]})
    for number in range(MANY):
        world.alert(alert(f"of-{number}", tenant_id=f"tenant-{number}", at_ms=NOON_MS))
    world.after(HOUR_MS)
    assert len(world.messages("team")) < MANY / 5
    assert len(told(world)) == MANY
