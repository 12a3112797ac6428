"""What every integration does for its framework: a call is reported once, in the run that it belongs to."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spendfuse import Emitter, Guard, Stopped
from spendfuse._client.connect import Connection
from spendfuse._integrations.answer import Seen
from spendfuse._integrations.base import Integration, ModelCall
from spendfuse.testing import FakeControl, MemoryTransport

TIMEOUT_S = 30.0


class World:
    """An integration, and what its calls say."""

    def __init__(self) -> None:
        self.transport, self.control = MemoryTransport(), FakeControl()
        self.emitter = Emitter(self.transport)
        self.guard = Guard(self.control, self.emitter, when_blind="stop", tenant_id="acme")
        assert self.guard.wait_ready(TIMEOUT_S)
        options: Any = {"workflow": "support", "cap_usd": "2.50"}
        self.integration = Integration("spendfuse.test", Connection("acme", self.emitter, self.guard), options)

    def call(self) -> ModelCall:
        """One that is under way, of the run in whose block it is."""
        run = self.integration.current_run()
        self.integration.check(run)
        return ModelCall(self.integration, run, "gpt-5")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was sent."""
        assert self.emitter.flush(TIMEOUT_S) == 0
        return self.transport.events


@pytest.fixture
def world() -> Iterator[World]:
    """One whose connection ends."""
    world = World()
    yield world
    world.guard.close()
    world.emitter.close()


def dropped(call: ModelCall) -> None:
    """Nobody has it any more, and nobody has said how it ended."""


ENDS: dict[str, tuple[Callable[[ModelCall], None], str | None, str]] = {
    "is answered": (lambda call: call.done({"input_tokens": 7}), "ok", "completed"),
    "fails": (lambda call: call.ended(RuntimeError("broken")), "error", "failed"),
    "is left": (lambda call: call.ended(None, {"output_tokens": 1}), "cancelled", "cancelled"),
    "is killed": (lambda call: call.ended(Stopped("enough")), "cancelled", "killed"),
    "is not to be seen": (lambda call: call.unseen(), None, "completed"),
    "is dropped": (dropped, None, "cancelled"),
}


@pytest.mark.parametrize(("ends", "status", "end"), ENDS.values(), ids=ENDS)
def test_a_call_in_nobodys_block_is_a_run_that_ends_with_it(
    world: World, ends: Callable[[ModelCall], None], status: str | None, end: str
) -> None:
    """The service knows the cap that the integration was given for such calls; the guard forgets it afterwards."""
    ends(world.call())
    gc.collect()
    begun, *calls, ended = world.events
    assert (begun["type"], begun["workflow"], begun["cap_nanousd"]) == ("run_started", "support", 2_500_000_000)
    assert [call.get("status", "ok") for call in calls] == ([] if status is None else [status])
    assert (ended["type"], ended["status"]) == ("run_finished", end)
    assert len({event["run_id"] for event in (begun, *calls, ended)}) == 1
    assert world.guard._watchlist.is_empty


def test_a_kill_reaches_a_call_in_nobodys_block_while_it_is_under_way(world: World) -> None:
    """A stream of such a call ends as any other: it looks at the run's event."""
    call = world.call()
    world.control.kill(call.run)
    assert call.run.stop_event.is_set()
    with pytest.raises(Stopped):
        world.integration.check(call.run)


def test_a_call_in_a_block_neither_begins_nor_ends_its_run(world: World) -> None:
    """The run is whoever's block it is."""
    with world.integration.new_run(run_id="block"):
        for _ in range(2):
            world.call().done({})
        assert [event["type"] for event in world.events] == ["run_started", "llm_call", "llm_call"]
    assert [event["type"] for event in world.events][3:] == ["run_finished"]


class Words:
    """Reads parts that are texts, or counts of tokens."""

    def is_output(self, part: object) -> bool:
        return isinstance(part, str)

    def usage(self, part: object) -> Any:
        return part if isinstance(part, dict) else None

    def response_id(self, _: object) -> str | None:
        return None

    def model(self, _: object) -> str | None:
        return None


@pytest.mark.parametrize(
    ("parts", "begun"),
    [
        ([], None), (["a", "b"], {"output_tokens": 2}),
        ([{"input_tokens": 9}, "a"], {"input_tokens": 9, "output_tokens": 1}),
        ([{"output_tokens": 5}, "a"], {"output_tokens": 5}),
    ],
    ids=["nothing came", "words came", "its input was told", "its output was told"],
)  # fmt: skip
def test_a_stream_that_broke_off_has_cost_what_came_of_it(parts: list[object], begun: dict[str, int] | None) -> None:
    """From below: a token for each part, unless its provider has said more; nothing where nothing came."""
    seen = Seen()
    for each in parts:
        seen.take(Words(), each)
    assert seen.begun() == begun
