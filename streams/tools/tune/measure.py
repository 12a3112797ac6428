"""What one policy comes to over a log, rule by rule: whom it would have told, what stopped, and whether rightly so."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from models.effects import Effect
from models.rules.policy import Policy
from models.stimuli import OperatorSeen, UsageSeen
from schemas.alert import PAGING, Alert
from schemas.control import Command
from schemas.operator import Feedback, Verdict
from schemas.usage import UsageMessage
from streams.tools.backtest import FileLog
from streams.tools.event_log import Line
from streams.tools.replay.past_runs import PastRun
from streams.tools.replay.replay import Replay
from streams.tools.scorecard import Fate, Scorecard


@dataclass(slots=True)
class Told:
    """An incident that somebody would have been told of."""

    units: set[str]
    """The runs and sessions that it is about."""
    pages: bool = False


@dataclass(slots=True)
class RuleFacts:
    """What one rule did."""

    told: dict[str, Told] = field(default_factory=dict)
    """Incident -> about whom."""
    kills: dict[str, str] = field(default_factory=dict)
    """Kill -> the incident that it was given for."""
    false_kills: set[str] = field(default_factory=set)
    """Kills of runs whose output was accepted or edited later."""
    saved_nanousd: int = 0


@dataclass(slots=True)
class Log:
    """What the log itself holds, whatever the policy."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """Incident -> what somebody has made of it, the last word."""
    units: set[str] = field(default_factory=set)
    """Runs and sessions."""
    first_ms: int = 0
    last_ms: int = 0


class Measure(Scorecard):
    """A scorecard that tells rules apart."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: defaultdict[str, RuleFacts] = defaultdict(RuleFacts)
        self.log = Log()
        self._given: dict[str, tuple[int, str]] = {}
        """Kill -> the how manieth it is, and its rule."""
        self._sessions: dict[str, str] = {}

    def message(self, message: UsageMessage, run: PastRun, fate: Fate) -> int:
        """Count a message, and what it shows of the kills that were for its run."""
        false_before = len(self.false_kills)
        cost_nanousd = super().message(message, run, fate)
        self.log.units.add(run.run_id)
        if run.session_id is not None:
            self.log.units.add(run.session_id)
            self._sessions[run.run_id] = run.session_id
        killed_by = {kill: self._given[kill] for kill in run.killed_by or () if kill in self._given}
        if len(self.false_kills) > false_before:
            for kill, (_, rule) in killed_by.items():
                self.rules[rule].false_kills.add(kill)
        if fate == "saved" and killed_by:
            _, first = min(killed_by.values())
            self.rules[first].saved_nanousd += cost_nanousd
        return cost_nanousd

    def effect(self, effect: Effect) -> None:
        """Count what the engine published, under the rule that led to it."""
        super().effect(effect)
        match effect.value:
            case Alert(state="open" | "escalated") as alert:
                facts = self.rules[alert.rule].told
                told = facts.setdefault(alert.incident_id, Told(set()))
                told.units |= self._units(alert)
                told.pages |= alert.severity in PAGING
            case Command(action="kill") as command:
                self._given.setdefault(command.command_id, (len(self._given), command.rule))
                self.rules[command.rule].kills[command.command_id] = command.incident_id
            case _:
                pass

    def lines(self, log: Iterable[Line]) -> Iterator[Line]:
        """The lines of the log, noted on their way to the replay."""
        for line in log:
            match line:
                case OperatorSeen(message=Feedback(incident_id=incident_id, verdict=verdict)):
                    self.log.verdicts[incident_id] = verdict
                case UsageSeen(append_ms=append_ms):
                    self.log.first_ms = min(self.log.first_ms or append_ms, append_ms)
                    self.log.last_ms = max(self.log.last_ms, append_ms)
                case _:
                    pass
            yield line

    def _units(self, alert: Alert) -> set[str]:
        found = {str(run) for run in alert.evidence.get("latest_runs", ())}
        found |= {alert.scope[kind] for kind in ("session", "run_tree") if kind in alert.scope}
        if alert.run_id is not None:
            found.add(alert.run_id)
        return found | {self._sessions[run] for run in found if run in self._sessions}


def measured(policy: Policy, log: FileLog) -> Measure:
    """Replay a log under a policy, whatever policies it holds; commands are obeyed as in a backtest."""
    measure = Measure()
    replay = Replay(policy, measure, keeps_policy=True, answered=log.answered)
    for _ in replay.effects(measure.lines(log.lines())):
        pass
    for _ in replay.last_hour():
        pass
    return measure
