"""The tool calls that fail in run after run of a session or run tree: what no single run's history shows."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple

from models.state.rows import PLAIN, Row
from schemas.control import Target

MOST_CALLS: Final = 8
"""Different failing calls of one session or run tree that are remembered, the latest."""
MOST_OF_A_RUN: Final = 2
"""So many failures of the same call in one run count: more of them in a row are the run's own loop."""


class FailingCall(NamedTuple):
    """One call that has failed in the runs of a session or run tree, with none in between that worked.

    runs      in how many runs, one after another
    failures  how often, of each run at most `MOST_OF_A_RUN` times
    verified  how often with the result of the last time, and in runs that are known to have come one after another
    """

    group: Target
    name: str
    tool: str
    runs: int
    failures: int
    verified: int
    spent_nanousd: int
    """What these runs have cost from the first of these calls to the last, as far as they are remembered."""


class Failures:
    """How often one call has failed, brought up to date by `add`."""

    __slots__ = ("_in_run", "_result", "_run_nanousd", "failures", "last_ms", "run_id", "runs", "spent_nanousd", "tool",
                 "verified")  # fmt: skip

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.runs = self.failures = self.verified = 0
        self.last_ms = 0
        self.spent_nanousd = 0
        self.run_id = ""
        """The run that has made it last."""
        self._result = ""
        self._in_run = 0
        self._run_nanousd = 0

    def spent(self, nanousd: int) -> None:
        """What the run that has made it last has cost by now."""
        self.spent_nanousd += nanousd - self._run_nanousd
        self._run_nanousd = nanousd

    def add(self, run_id: str, result: str, run_nanousd: int, at_ms: int, *, in_turn: bool) -> None:
        """Add a failure; `result` is a short name of its result. An unknown one is empty, and like no other. `in_turn`
        says that the run before has given up.
        """
        if run_id != self.run_id:
            self.runs += 1
            self.run_id, self._in_run = run_id, 0
            self._run_nanousd = run_nanousd if self.runs == 1 else 0
        self.spent(run_nanousd)
        self.last_ms = max(self.last_ms, at_ms)
        if result != self._result or not result or not in_turn:
            self._result, self.verified = result, 0
        if self._in_run < MOST_OF_A_RUN:
            self._in_run += 1
            self.failures += 1
            self.verified += 1

    def to_row(self) -> tuple[Any, ...]:
        """The state as plain values."""
        return (
            self.tool, self.runs, self.failures, self.verified, self.last_ms, self.spent_nanousd, self.run_id,
            self._result, self._in_run, self._run_nanousd,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Failures":
        """What `to_row` described."""
        one = cls(row[0])
        (
            _, one.runs, one.failures, one.verified, one.last_ms, one.spent_nanousd, one.run_id, one._result,
            one._in_run, one._run_nanousd,
        ) = row  # fmt: skip
        return one


class FailingCalls(Row):
    """The failing calls of a session or run tree, by a short name of tool and arguments, for as long as they go on."""

    __slots__ = ("calls", "due_ms", "group_key", "tenant_id")
    kind: ClassVar[str] = "failing"

    def __init__(self, tenant_id: str, group_key: tuple[str, ...], due_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.group_key = group_key
        """The id of a session; of a run tree, its id and that it is one."""
        self.due_ms = due_ms
        """When it is looked at whether they do."""
        self.calls: dict[bytes, Failures] = {}

    @property
    def group(self) -> Target:
        """The session or run tree, as commands to it name it."""
        return Target("session" if len(self.group_key) == 1 else "run_tree", self.group_key[0])

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
