"""The tool calls that fail in run after run of a session or run tree, with agent after agent of a run, or round after
round of changes: what no single history shows.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple

from models.state.rows import PLAIN, Row
from models.state.units.unit import UnitKind
from schemas.control import Target

MOST_CALLS: Final = 8
"""Different failing calls of one session, run tree or run that are remembered, the latest."""
MOST_OF_A_MEMBER: Final = 2
"""So many failures of the same call in one run (agent, round) count: more of them in a row are its own loop."""

Members = Literal["runs", "agents", "rounds"]
"""Who makes the same failing call: the runs of a session or run tree; the agents of one run; or one agent, in rounds
between which it has written something.
"""


class FailingCall(NamedTuple):
    """One call that has failed with member after member, with none in between that worked.

    in_a_row  with how many of `members`, one after another
    failures  how often, of each at most `MOST_OF_A_MEMBER` times
    verified  how often with the result of the last time, and with members that are known to have come one after another
    """

    group: Target
    """The session, run tree or run that they belong to."""
    members: Members
    name: str
    tool: str
    in_a_row: int
    failures: int
    verified: int
    spent_nanousd: int
    """What was spent from the first of these calls to the last, as far as it is remembered."""


class Failures:
    """How often one call has failed, brought up to date by `add`."""

    __slots__ = ("_by_last", "_result", "_run_nanousd", "count", "failures", "last_ms", "member", "spent_nanousd",
                 "tool", "verified")  # fmt: skip

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.count = self.failures = self.verified = 0
        self.last_ms = 0
        self.spent_nanousd = 0
        self.member = ""
        """Who has made it last."""
        self._result = ""
        self._by_last = 0
        self._run_nanousd = 0

    def failed_with(self, result: str) -> bool:
        """Whether it is known to have failed with that result the last time."""
        return result == self._result != ""

    def spent(self, nanousd: int) -> None:
        """What the run in which it was made last has cost by now."""
        self.spent_nanousd += nanousd - self._run_nanousd
        self._run_nanousd = nanousd

    def add(
        self, member: str, result: str, run_nanousd: int, at_ms: int, *, in_turn: bool, in_one_run: bool = False
    ) -> None:
        """Add a failure; `result` is a short name of its result. An unknown one is empty, and like no other. `in_turn`
        says that the member before has given up, `in_one_run` that all members spend in one run.
        """
        if member != self.member:
            self.count += 1
            self.member, self._by_last = member, 0
            if self.count == 1:
                self._run_nanousd = run_nanousd
            elif not in_one_run:
                self._run_nanousd = 0
        self.spent(run_nanousd)
        self.last_ms = max(self.last_ms, at_ms)
        if result != self._result or not result or not in_turn:
            self._result, self.verified = result, 0
        if self._by_last < MOST_OF_A_MEMBER:
            self._by_last += 1
            self.failures += 1
            self.verified += 1

    def to_row(self) -> tuple[Any, ...]:
        """The state as plain values."""
        return (
            self.tool, self.count, self.failures, self.verified, self.last_ms, self.spent_nanousd, self.member,
            self._result, self._by_last, self._run_nanousd,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Failures":
        """What `to_row` described."""
        one = cls(row[0])
        (
            _, one.count, one.failures, one.verified, one.last_ms, one.spent_nanousd, one.member, one._result,
            one._by_last, one._run_nanousd,
        ) = row  # fmt: skip
        return one


class FailingCalls(Row):
    """The failing calls of a session, tree or run, by a short name of tool and arguments, for as long as they go on."""

    __slots__ = ("calls", "due_ms", "group_key", "tenant_id")
    kind: ClassVar[str] = "failing"

    def __init__(self, tenant_id: str, group_key: tuple[str, ...], due_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.group_key = group_key
        """The id of a session; of a tree or a run, its id and that it is one; of an agent's rounds, its name too."""
        self.due_ms = due_ms
        """When it is looked at whether they do."""
        self.calls: dict[bytes, Failures] = {}

    @property
    def kind_of_group(self) -> UnitKind:
        """Whether they are a session's, a run tree's or a run's."""
        if len(self.group_key) == 1:
            return "session"
        return "run" if self.group_key[1] == "run" else "run_tree"

    @property
    def group(self) -> Target:
        """The session, run tree or run, as commands to it name it."""
        return Target(self.kind_of_group, self.group_key[0])

    @property
    def members(self) -> Members:
        """Who makes them."""
        if self.kind_of_group != "run":
            return "runs"
        return "agents" if len(self.group_key) == 2 else "rounds"

    @property
    def last_ms(self) -> int:
        """When the last of them was made."""
        return max((failures.last_ms for failures in self.calls.values()), default=0)

    def failures(self, name: bytes, tool: str, since_ms: int) -> Failures:
        """How often the call of that name has failed; from nothing if not since `since_ms`. The latest stands last."""
        failures = self.calls.pop(name, None)
        if failures is None or failures.last_ms < since_ms:
            failures = Failures(tool)
        if len(self.calls) >= MOST_CALLS:
            del self.calls[next(iter(self.calls))]
        self.calls[name] = failures
        return failures

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.group_key)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        return tuple((name, failures.to_row()) for name, failures in self.calls.items())

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "FailingCalls":
        """Failing calls as their row holds them."""
        row = cls(parts[0], parts[1:], due_ms)
        row.calls = {name: Failures.from_row(one) for name, one in fields}
        return row
