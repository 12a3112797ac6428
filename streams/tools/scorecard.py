"""What a backtest comes to: who would have been told what, what would have been stopped, and what that had saved."""

from collections import Counter, defaultdict

from models.effects import Effect
from models.prices.book import PriceBook
from schemas.alert import PAGING, Alert
from schemas.control import Command
from schemas.money import format_usd
from schemas.usage import UNATTRIBUTED, LlmCall, ToolCall, UsageMessage


class Scorecard:
    """Follows the messages and effects of a backtest."""

    def __init__(self) -> None:
        self.events = 0
        self.dead_letters = 0
        self.spent_nanousd = 0
        self.alerts: Counter[tuple[str, str]] = Counter()
        self.pages: Counter[str] = Counter()
        self.commands: Counter[tuple[str, str]] = Counter()
        self.saved_nanousd = 0
        self.saved_by: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._stopped: set[tuple[str, str, str]] = set()
        self._workflows: dict[tuple[str, str], str] = {}
        self._prices = PriceBook()

    def message(self, message: UsageMessage) -> None:
        """Before the engine decides about it."""
        self.events += 1
        run = (message.tenant_id, message.run_id)
        if message.workflow is not None:
            self._workflows[run] = message.workflow
        if not isinstance(message, LlmCall | ToolCall):
            return
        cost_nanousd = self._cost(message)
        self.spent_nanousd += cost_nanousd
        if self._stopped and self._is_stopped(message):
            self.saved_nanousd += cost_nanousd
            self.saved_by[message.tenant_id, self._workflows.get(run, UNATTRIBUTED)] += cost_nanousd

    def effect(self, effect: Effect) -> None:
        """After the engine has decided."""
        match effect.value:
            case Alert() as alert:
                if alert.state in ("open", "escalated"):
                    self.alerts[alert.rule, alert.severity] += 1
                    if alert.severity in PAGING:
                        self.pages[alert.tenant_id] += 1
            case Command() as command:
                self.commands[command.action, command.rule] += 1
                target = (command.tenant_id, command.target.type, command.target.id)
                if command.action == "kill":
                    self._stopped.add(target)
                elif command.action == "resume":
                    self._stopped.discard(target)
            case _:
                self.dead_letters += effect.topic == "usage.dlq.v1"

    def text(self) -> str:
        """The scorecard for people."""
        lines = [
            f"{self.events:,} events, {format_usd(self.spent_nanousd)} spent, {self.dead_letters:,} dead letters",
            "",
            *_table("alerts", ("rule", "severity"), self.alerts),
            *_table("commands", ("action", "rule"), self.commands),
        ]
        kills = sum(count for (action, _), count in self.commands.items() if action == "kill")
        saved = format_usd(self.saved_nanousd)
        lines.append(f"pages: {sum(self.pages.values())}   kills: {kills}   spent after the cause of a kill: {saved}")
        for (tenant_id, workflow), nanousd in sorted(self.saved_by.items(), key=lambda pair: (-pair[1], pair[0])):
            lines.append(f"  {tenant_id} / {workflow}: {format_usd(nanousd)}")
        return "\n".join(lines)

    def _cost(self, call: LlmCall | ToolCall) -> int:
        if isinstance(call, ToolCall):
            return call.cost_nanousd or 0
        return self._prices.charge(call).cost_nanousd

    def _is_stopped(self, call: LlmCall | ToolCall) -> bool:
        targets = [("run", call.run_id), ("session", call.session_id), ("run_tree", call.root_run_id)]
        return any(
            target_id is not None and (call.tenant_id, target_type, target_id) in self._stopped
            for target_type, target_id in targets
        )


def _table(title: str, names: tuple[str, str], rows: Counter[tuple[str, str]]) -> list[str]:
    if not rows:
        return [f"no {title}", ""]
    width = max(len(names[0]), *(len(first) for first, _ in rows))
    other = max(len(names[1]), *(len(second) for _, second in rows))
    lines = [f"{title:<8} {names[0]:<{width}}  {names[1]:<{other}}"]
    for (first, second), count in sorted(rows.items()):
        lines.append(f"{count:>8,} {first:<{width}}  {second:<{other}}")
    return [*lines, ""]
