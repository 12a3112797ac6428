"""Commands obeyed by the runs of a log: which of its messages there would not have been, and what guards would answer.

A log of the past was made without the commands that a backtest gives. Each is taken to be obeyed a reaction time later,
unless the log holds an answer to this very command: then it shows what really became of it.
"""

import heapq
from collections.abc import Iterator
from typing import Literal

from schemas.control import Command
from schemas.internal.spend import ALL_TENANTS
from schemas.usage import (
    CommandAck,
    LlmCall,
    Outcome,
    RunFinished,
    RunStarted,
    ToolCall,
    UsageMessage,
)
from streams.tools.replay.past_runs import PastRun, PastRuns, means

Acted = Literal["stopped", "paused", "downgraded"]
ACTED: dict[str, Acted] = {"kill": "stopped", "pause": "paused", "downgrade": "downgraded"}
"""Action -> how a guard answers it."""


class Stop:
    """A kill or a pause that stands."""

    __slots__ = ("command", "from_ms", "is_obeyed")

    def __init__(self, command: Command, reaction_ms: int, *, is_obeyed: bool) -> None:
        self.command = command
        self.from_ms = command.issued_ms + reaction_ms
        """Calls that begin from here on would not have been made."""
        self.is_obeyed = is_obeyed
        """False where the log itself shows what became of the command."""

    @property
    def is_kill(self) -> bool:
        """Whether runs end with it, rather than wait."""
        return self.command.action == "kill"

    def stands(self, now_ms: int) -> bool:
        """Whether it has not run out."""
        return now_ms < self.command.expires_ms


class Stops:
    """The commands of a backtest and the answers to them."""

    def __init__(self, runs: PastRuns, reaction_ms: int, *, obeys: bool, answered: frozenset[str]) -> None:
        """`answered` are the commands whose answers are in the log; without `obeys` nothing stops."""
        self._runs = runs
        self._reaction_ms = reaction_ms
        self._obeys = obeys
        self._answered = answered
        self._standing: dict[str, dict[tuple[str, str], Stop]] = {}
        self._scopes: dict[str, dict[tuple[str, str], None]] = {}
        """Targets that no single value names: each has to be asked."""
        self._due: dict[str, list[tuple[int, int, Command]]] = {}
        self._number = 0

    def given(self, command: Command) -> None:
        """The engine has given a command."""
        target = (command.target.type, command.target.id)
        if command.action == "resume":
            self._lift(command.tenant_id, target)
            return
        is_obeyed = self._obeys and command.command_id not in self._answered
        if command.action in ("kill", "pause"):
            stop = Stop(command, self._reaction_ms, is_obeyed=is_obeyed)
            self._standing.setdefault(command.tenant_id, {})[target] = stop
            if command.target.type == "scope":
                self._scopes.setdefault(command.tenant_id, {})[target] = None
            if stop.is_kill:
                for run in self._runs.meant_by(command):
                    if run.is_live or command.target.type == "run":
                        run.kill(command.command_id)
        if is_obeyed and command.action in ACTED:
            self._number += 1
            due_ms = command.issued_ms + self._reaction_ms
            heapq.heappush(self._due.setdefault(command.tenant_id, []), (due_ms, self._number, command))

    def over(self, message: UsageMessage, run: PastRun, now_ms: int) -> Stop | None:
        """The command that stands on a run at its message, if any: a kill before a pause."""
        found: Stop | None = None
        for tenant_id in (message.tenant_id, ALL_TENANTS):
            standing = self._standing.get(tenant_id)
            if not standing:
                continue
            for target in self._targets(tenant_id, message, run):
                stop = standing.get(target)
                if stop is not None and not stop.stands(now_ms):
                    self._lift(tenant_id, target)
                elif stop is not None and (found is None or stop.is_kill > found.is_kill):
                    found = stop
        return found

    def _targets(self, tenant_id: str, message: UsageMessage, run: PastRun) -> list[tuple[str, str]]:
        """What a command of that tenant may name to reach the run at this message."""
        scopes = self._scopes.get(tenant_id, ())
        targets = [key for key in scopes if means(self._standing[tenant_id][key].command, run, message)]
        if tenant_id == ALL_TENANTS:
            return targets
        return [
            ("run", run.run_id),
            ("session", run.session_id or ""),
            ("run_tree", run.root_run_id),
            ("workflow", message.workflow or run.workflow),
            ("tenant", tenant_id),
            *targets,
        ]

    def _lift(self, tenant_id: str, target: tuple[str, str]) -> None:
        self._standing.get(tenant_id, {}).pop(target, None)
        self._scopes.get(tenant_id, {}).pop(target, None)

    def next_answer_ms(self, tenant_id: str) -> int | None:
        """When the tenant's next answer comes, None for never."""
        due = self._due.get(tenant_id)
        return due[0][0] if due else None

    def take_answers(self, tenant_id: str) -> Iterator[UsageMessage]:
        """What guards say of the tenant's oldest command that is unanswered, and the ends of runs that it stops."""
        due_ms, _, command = heapq.heappop(self._due[tenant_id])
        stop = self._standing.get(tenant_id, {}).get((command.target.type, command.target.id))
        if command.action != "downgrade" and (stop is None or stop.command is not command):
            return  # lifted, or replaced by a stronger one, before anybody met it
        known = list(self._runs.meant_by(command))
        live = [run for run in known if run.is_live]
        if not known:
            return
        yield CommandAck(
            event_id=f"backtest/{command.command_id}",
            ts_ms=due_ms,
            tenant_id=tenant_id,
            run_id=(live or known)[0].run_id,
            command_id=command.command_id,
            acted=ACTED[command.action] if live else "already_finished",
        )
        for number, run in enumerate(live if command.action == "kill" else ()):
            run.is_live = False
            yield RunFinished(
                event_id=f"backtest/{command.command_id}/{number}",
                ts_ms=due_ms,
                tenant_id=tenant_id,
                run_id=run.run_id,
                status="killed",
            )


def would_not_be(message: UsageMessage, run: PastRun, stop: Stop, now_ms: int) -> bool:
    """Whether there would be no such message if the run had obeyed.

    A call that was under way when the guard heard of the command is made and paid. An outcome is about work that was
    done, unless the run went on working in the log alone.
    """
    match message:
        case LlmCall() | ToolCall():
            return began_ms(message, now_ms) >= stop.from_ms
        case RunStarted():
            return stop.is_kill and min(message.ts_ms, now_ms) >= stop.from_ms
        case RunFinished():
            return stop.is_kill and not run.is_live
        case Outcome():
            return stop.is_kill and run.has_lost_calls
        case CommandAck():
            return False


def began_ms(call: LlmCall | ToolCall, now_ms: int) -> int:
    """When a call began, as far as it says; a clock that runs ahead counts as now."""
    started_ms = call.ts_ms - (call.latency_ms or 0) if call.started_ms is None else call.started_ms
    return min(started_ms, now_ms)
