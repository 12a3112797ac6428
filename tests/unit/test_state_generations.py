"""Generations of the state: their names, whom their fences refuse, and what a takeover leaves untold."""

from unittest.mock import MagicMock

import msgspec
import pytest

from models.effects import Effect
from models.rules.policy import default_policy
from models.state.rows import SCHEMA
from schemas.errors import SettingsError, StateError
from schemas.internal.spend import ALL_TENANTS
from schemas.topics import load_topics
from streams.__main__ import main
from streams.clock import BrokerClock
from streams.settings import Settings
from streams.tools.inspection.service_checks import generation_findings
from streams.tools.rebuild import beside
from streams.tools.rebuild.beside import parse_partitions, run_beside
from streams.worker.fence import (
    Fence,
    check_fence,
    moved_on,
    read_fence,
    refuse_left_behind,
    refuse_lost_state,
    write_fence,
)
from streams.worker.generations.filling import FilledElsewhere, TakenOver
from streams.worker.generations.published import level_of
from streams.worker.partition import MARKED_MS, Partition
from streams.worker_group import shared_topics
from tests.support.messages import MONDAY_MS
from tests.support.notices import alert


def fence(**fields: object) -> Fence:
    """The end of some state."""
    given = {
        "usage_offset": 41, "operator_offset": -1, "digest": "0", "schema": SCHEMA, "partitions": 4,
        "policy_version": "v", "last_append_ms": MONDAY_MS, "written_ms": MONDAY_MS, "time_ms": MONDAY_MS,
    }  # fmt: skip
    return msgspec.convert(given | fields, Fence)


def test_a_generation_has_topics_of_its_own() -> None:
    """Those that workers alone read and write; the first generation has the names that it always had."""
    first, second = Settings(prefix="prod."), Settings(prefix="prod.", state_generation=2)
    assert (first.topic("state.v1"), first.topic("usage.v1")) == ("prod.state.v1", "prod.usage.v1")
    assert (second.topic("state.v1"), second.topic("spend.v1")) == ("prod.state.v1.g2", "prod.spend.v1.g2")
    assert second.topic("usage.v1") == "prod.usage.v1"
    assert load_topics(generation=2).keys() - load_topics().keys() == {"state.v1.g2", "spend.v1.g2"}
    assert load_topics(generation=2)["state.v1.g2"].config == load_topics()["state.v1"].config


def test_workers_of_two_generations_share_partitions_by_the_same_topics() -> None:
    """Or the group would give two of them the same partition."""
    assert shared_topics(Settings(state_generation=2)) == shared_topics(Settings())


def test_whoever_is_left_behind_refuses_and_is_told_where_to_go() -> None:
    """The former generation's fence refuses in every version: as state of a schema that none has."""
    left = read_fence(3, write_fence(moved_on(fence(), 2)), 1)
    assert left is not None
    assert left.schema > 100 * SCHEMA
    with pytest.raises(StateError, match="SPENDFUSE_STATE_GENERATION=2"):
        check_fence(3, left, 4)
    check_fence(3, fence(), 4)


def test_a_generation_that_the_group_has_left_refuses() -> None:
    """What it would count has been published; the first one's offset may have been set by hand, and its fence rules."""
    with pytest.raises(StateError, match="without it"):
        refuse_left_behind(0, fence(), 100, 2)
    refuse_left_behind(0, fence(), 42, 2)
    refuse_left_behind(0, fence(), -1001, 2)
    refuse_left_behind(0, fence(), 100, 1)


def test_a_generation_that_was_not_filled_is_no_lost_state() -> None:
    """Who starts workers too early is told to go back, and what to do first."""
    with pytest.raises(StateError, match=r"go back to the generation .* --from-input --generation 2"):
        refuse_lost_state(0, 42, 2)
    with pytest.raises(StateError, match="its state is lost"):
        refuse_lost_state(0, 42, 1)
    refuse_lost_state(0, -1001, 2)


def test_a_takeover_goes_on_with_the_time_of_the_former_worker() -> None:
    """Its clock, and until when it let time pass; with a fence of an older version a little less, rather than more."""
    for ticked_ms, wanted in ((MONDAY_MS - 2_500, MONDAY_MS - 2_500), (0, MONDAY_MS - 4_000)):
        partition = Partition(0, 4, default_policy(), {}, None)
        partition.take_over(fence(ticked_ms=ticked_ms))
        written = partition.fence()
        assert (written.ticked_ms, written.time_ms) == (wanted, MONDAY_MS)
        assert written.taken_over_ms > 0


def test_a_partition_is_marked_as_moved_for_a_day() -> None:
    """For as long as workers of the generation before may be about: they see that somebody works on it."""
    brokers = BrokerClock()
    brokers.heard(MONDAY_MS)
    for taken_ms, is_marked in ((MONDAY_MS - MARKED_MS // 2, True), (MONDAY_MS - MARKED_MS - 1, False), (0, False)):
        given = fence(predecessor=1, taken_over_ms=taken_ms, digest="0000000000000000")
        assert Partition(0, 4, default_policy(), {}, given, brokers=brokers).has_left_another == is_marked
    assert fence(predecessor=1).is_being_filled
    assert not fence(predecessor=1, taken_over_ms=1).is_being_filled


def test_a_level_across_tenants_is_published_by_one_generation() -> None:
    """As often as the former one has published it, no alert of it leaves; then it is news again, as others are."""
    across = alert(tenant_id=ALL_TENANTS, state="open", level=0.5)
    own = alert(tenant_id="acme", state="open", level=0.5)
    partition = Partition(0, 4, default_policy(), {}, None)
    level = level_of(across)
    assert level is not None
    assert level_of(own) is None
    partition.published[level] += 1
    left = []
    for _ in range(2):
        for each in (across, own):
            partition.engine._state.publish(Effect("alerts.v1", each.tenant_id, each))
        left.append([effect.value for effect in partition.drain_effects()])
    assert left == [[own], [across, own]]


def test_partitions_as_people_write_them() -> None:
    """Numbers and ranges."""
    assert parse_partitions("0-2, 7") == {0, 1, 2, 7}
    for wrong in ("", "a", "3-", "-1", "1,,2"):
        with pytest.raises(ValueError, match="is no partition"):
            parse_partitions(wrong)


def test_the_generation_that_workers_keep_cannot_be_filled() -> None:
    """Before anything is asked of a broker."""
    with pytest.raises(SettingsError, match="--generation 3"):
        run_beside(Settings(state_generation=2), 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--follow"], "go with --generation"),
        (["--generation", "2", "--publish-again"], "does not go with --generation"),
        (["--generation", "2", "--partitions", "x"], "is no partition"),
        (["--generation", "0"], "numbered from 1"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 2, and a sentence."""
    assert main(["rebuild", "--from-input", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_doctor_sees_which_generation_is_kept() -> None:
    """That this environment names another one than workers keep, or one that is only being filled."""
    [moved] = generation_findings(1, {0: moved_on(fence(), 2), 1: fence()})
    assert (moved.health, "SPENDFUSE_STATE_GENERATION=2" in moved.advice) == ("warning", True)
    assert "the rest is to follow" in moved.text
    [filled] = generation_findings(2, {0: fence(predecessor=1)})
    assert "workers keep generation 1" in filled.text
    assert list(generation_findings(2, {0: fence(predecessor=1, taken_over_ms=1)})) == []


@pytest.mark.parametrize("follow", [False, True])
def test_two_rebuilds_at_once_do_not_take_each_other_for_a_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, follow: bool
) -> None:
    """Whoever began earlier leaves the partition to the other one, and never says that workers keep it: it ends and
    says what to do, or goes on watching until they really do. Nothing is filled a second time meanwhile.
    """
    rounds, begun = [0], [0]

    class Elsewhere:
        def __init__(self, *_: object) -> None: ...

        def begin(self, _: object) -> None:
            begun[0] += 1
            raise FilledElsewhere("another process fills it now")

    class WorkersLater:
        def __init__(self, *_: object) -> None: ...

        def fence(self, number: int) -> None:
            rounds[0] += 1
            if rounds[0] > 3:
                raise TakenOver(f"partition {number}: taken over")

    for name, stands_in in (
        ("Filling", Elsewhere), ("Predecessor", WorkersLater), ("BrokerTime", MagicMock()), ("pause", lambda _: None),
        ("policy_in_force", MagicMock()), ("newest_fences", lambda *_: {}),
    ):  # fmt: skip
        monkeypatch.setattr(beside, name, stands_in)
    rebuild = beside._Rebuild(Settings(), Settings(state_generation=2), 1)
    monkeypatch.setattr(rebuild, "_home", 9)
    if follow:
        assert rebuild.run([0], follow=True) == 0
        assert rounds[0] == 4
    else:
        with pytest.raises(StateError, match="partitions 0: another process fills them now"):
            rebuild.run([0], follow=False)
    said = capsys.readouterr().out
    assert begun[0] == 1
    assert ("workers of generation 2 keep partitions 0 now" in said) == follow
    assert "Replace them now" not in said
