"""The fence row: how far a partition's state goes, and the proof that it is whole. Last row of every transaction."""

import logging

import msgspec

from models.state.rows import SCHEMA, row_key_of
from schemas.errors import StateError
from streams.process.logs import fields

log = logging.getLogger("spendfuse.fence")

FENCE_KEY = row_key_of("fence")
MOVED_ON = 1_000_000
"""With the number of a generation added, the schema of the fence that the generation before it is left with: no version
reads that, not even one that knows of no generations."""
_INSTEAD = "Rebuild the state from the input: python -m streams rebuild --from-input"
_BESIDE = (
    ", with all workers ended; or, while workers of the version that wrote it go on, beside them, with --generation: "
    "docs/operations/upgrades.md"
)


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's rows include. Offsets are those of the last record applied, -1 for none."""

    usage_offset: int
    operator_offset: int
    spend_offset: int = -1
    """Of spend.v1; -1 in fences of older versions, which knew no such topic."""
    digest: str
    """Sum of the digests of all rows, modulo 2**64, in hexadecimal."""
    schema: int
    partitions: int
    policy_version: str
    policy_stamp: int = 0
    """`Policy.stamp` of the policy that the rows were written under, for people; 0 where nobody wrote it down. A
    restore goes by the row of the policy itself."""
    last_append_ms: int
    written_ms: int
    """When it was written by the brokers' clock, so that a restart knows how long nobody was there; by the writer's
    own where no broker has told its time, and in fences of older versions."""
    time_ms: int = 0
    """The partition's time at that moment; 0 in fences of older versions, which had that of the last record."""
    host_ahead_ms: int = 0
    """How far the clock of the writer's host was ahead of the brokers', for people."""
    flood_paged_ms: int = 0
    """The hour in which somebody was last paged for a flood of unreadable records."""
    ticked_ms: int = 0
    """The latest time that was let pass without a record; 0 for none, and in fences of older versions."""
    predecessor: int = 0
    """The generation of the state beside whose workers these rows were filled; 0 for none."""
    taken_over_ms: int = 0
    """When a worker took the partition over from them, by the brokers' clock; 0 while they go on."""

    @property
    def is_being_filled(self) -> bool:
        """Whether workers of the generation before still count and publish, and these rows only follow."""
        return self.predecessor > 0 and not self.taken_over_ms

    @property
    def moved_on_to(self) -> int:
        """The generation that has taken this partition over; 0 while it is this one's."""
        return max(0, self.schema - MOVED_ON)


def write_fence(fence: Fence) -> bytes:
    """The fence row's value."""
    return msgspec.json.encode(fence)


def read_fence(partition: int, value: bytes | None, rows: int) -> Fence | None:
    """The fence of a partition, None if there is no state at all. Raises `StateError` if rows have no fence."""
    if value is None:
        if rows:
            raise StateError(f"partition {partition}: {rows} changelog rows and no fence row. {_INSTEAD}")
        return None
    try:
        return msgspec.json.decode(value, type=Fence)
    except msgspec.MsgspecError as error:
        raise StateError(f"partition {partition}: the fence row cannot be read ({error}). {_INSTEAD}") from None


def check_fence(partition: int, fence: Fence, partitions: int) -> None:
    """Refuse state that this worker cannot carry on. Raises `StateError`."""
    if fence.moved_on_to:
        raise StateError(
            f"partition {partition}: workers of generation {fence.moved_on_to} of the state have taken it over, and "
            "count and publish since. Start this one with "
            f"SPENDFUSE_STATE_GENERATION={fence.moved_on_to}, in a version that reads that generation; the way back is "
            "another rebuild: docs/operations/upgrades.md"
        )
    if fence.schema > SCHEMA:
        raise StateError(
            f"partition {partition}: the state was written by a newer version (schema {fence.schema}, this one reads "
            f"{SCHEMA}). Run that version, or rebuild: python -m streams rebuild --from-input{_BESIDE}"
        )
    if fence.schema < SCHEMA:
        raise StateError(
            f"partition {partition}: the state was written by an older version (schema {fence.schema}, this one reads "
            f"{SCHEMA}). {_INSTEAD}{_BESIDE}"
        )
    if fence.partitions != partitions:
        raise StateError(
            f"partition {partition}: the state was made for {fence.partitions} partitions of usage.v1, now there are "
            f"{partitions}: tenants have moved. {_INSTEAD}"
        )


def check_digest(partition: int, fence: Fence, digest: int) -> None:
    """Refuse rows that are not the ones the fence was written over. Raises `StateError`."""
    if fence.digest != f"{digest:016x}":
        raise StateError(
            f"partition {partition}: the state's digest is {digest:016x}, its fence says {fence.digest}: rows are "
            f"missing, altered, or from a writer that was cut off. {_INSTEAD}"
        )


def check_reach(partition: int, topic: str, included: int, low: int, high: int, *, accept_gap: bool) -> None:
    """Compare how far the fence `included` an input with what still exists of it, from `low` to before `high`.

    A gap that is accepted is logged. Raises `StateError`.
    """
    following = included + 1
    if following > high:
        raise StateError(
            f"partition {partition}: the state includes {topic} up to offset {included}, but the topic ends "
            f"at {high}: it was deleted and made anew. Delete state.v1 and spend.v1 too, or restore the topic."
        )
    if following >= low:
        return
    gap = f"partition {partition}: {topic} from offset {following} to {low - 1} was deleted before it was counted"
    if not accept_gap:
        raise StateError(f"{gap}. Set SPENDFUSE_ACCEPT_INPUT_GAP=true to go on without it.")
    log.error("input is missing", extra=fields(gap=gap))


def refuse_lost_state(number: int, group_offset: int, generation: int) -> None:
    """Refuse to begin without state where the group has counted something. Raises `StateError`."""
    if group_offset <= 0:
        return
    counted = f"partition {number}: the group has counted usage.v1 up to offset {group_offset - 1}, but the changelog"
    if generation == 1:
        raise StateError(f"{counted} is empty: its state is lost. Rebuild it: python -m streams rebuild --from-input")
    raise StateError(
        f"{counted} of generation {generation} is empty. Nothing is lost: go back to the generation that workers kept "
        "until now (SPENDFUSE_STATE_GENERATION), and fill this one beside them: "
        f"python -m streams rebuild --from-input --generation {generation}"
    )


def refuse_left_behind(number: int, fence: Fence, group_offset: int, generation: int) -> None:
    """Refuse a later generation that the group has moved on without, under another one: what it would count and publish
    has been published. The first one's fence tells that by itself, see `moved_on`. Raises `StateError`.
    """
    if generation > 1 and group_offset > fence.usage_offset + 1:
        raise StateError(
            f"partition {number}: generation {generation} of the state ends at offset {fence.usage_offset} of "
            f"usage.v1, and the group has counted on to {group_offset - 1} without it. Start this worker with the "
            "generation that workers have kept since (SPENDFUSE_STATE_GENERATION), or fill the next one beside them: "
            f"python -m streams rebuild --from-input --generation {generation + 1}"
        )


def moved_on(fence: Fence, generation: int) -> Fence:
    """What the generation before is left with where another one has taken over."""
    return msgspec.structs.replace(fence, schema=MOVED_ON + generation)
