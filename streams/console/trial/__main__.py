"""A trial in a process of its own: what is asked on standard input, how far it is and what it comes to on standard
output. It reads topics and writes to none.
"""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from models.effects import Effect
from models.rules.policy import Policy, read_policy_json, read_policy_toml
from schemas.alert import PAGING, Alert
from schemas.codec import encode
from schemas.errors import SpendfuseError
from schemas.usage import UsageMessage
from streams.console.trial.outcome import Asked, Comparison, Done, Failed, Line, Only, Progress, Tried, read_asked
from streams.settings import Settings, read_settings
from streams.tools.backtest import Asked as Terms
from streams.tools.backtest import FileLog, facts_of, replayed
from streams.tools.record import Range, write_record
from streams.tools.replay.past_runs import PastRun
from streams.tools.scorecard import ONCE, Fate, Scorecard

MOST_BYTES: Final = 4 << 30
"""Of the log on disk, while it is tried."""
MOST_CPU_S: Final = 900
MOST_ONLY: Final = 20
EVERY: Final = 5_000
"""Effects of a replay are few; progress is told by its lines."""


def main() -> int:
    """Try what is asked; returns 0 also where it fails, which is said."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 10))
    try:
        comparison = compare(read_settings(), read_asked(sys.stdin.buffer.read()))
    except (SpendfuseError, OSError) as error:
        _say(Failed(str(error)))
    else:
        _say(Done(comparison))
    return 0


def compare(settings: Settings, asked: Asked) -> Comparison:
    """Both policies over what the topics hold of a stretch of time. Raises `SpendfuseError` or `OSError`."""
    in_force, proposed = read_policy_json(asked.in_force.encode()), read_policy_toml(asked.proposed)
    with TemporaryDirectory(prefix="spendfuse-") as folder:
        path = Path(folder) / "record.jsonl"
        _say(Progress("reading what happened", 0.0))
        counts = write_record(settings, Range(asked.tenant_id, asked.since_ms, asked.until_ms), path)
        log = FileLog(path, progress=False, name="usage.v1")
        total = counts["usage.v1"]
        ours, our_facts = _tried(in_force, log, "the policy in force", 0.1, total)
        theirs, their_facts = _tried(proposed, log, "the proposed one", 0.55, total)
    alone = [_only(our_facts, their_facts), _only(their_facts, our_facts)]
    return Comparison(
        in_force=ours,
        proposed=theirs,
        both=len(our_facts.keys() & their_facts.keys()),
        only_in_force=alone[0][:MOST_ONLY],
        only_proposed=alone[1][:MOST_ONLY],
        left_out=sum(max(0, len(one) - MOST_ONLY) for one in alone),
    )


def _tried(policy: Policy, log: FileLog, what: str, from_share: float, total: int) -> tuple[Tried, dict[str, Alert]]:
    card = _Counting(what, from_share, total)
    facts = facts_of(_only_alerts(replayed(policy, log, card, Terms(keeps_policy=True))))
    told = [one for one in facts.values() if one.mode != "shadow"]
    return (
        Tried(
            version=policy.version,
            events=sum(card.events[fate] for fate in ONCE),
            pages=card.pages.total(),
            notices=sum(one.severity not in PAGING for one in told),
            kills=len(card.kills),
            false_kills=len(card.false_kills),
            saved_nanousd=card.nanousd["saved"],
            overshoot_nanousd=card.nanousd["after a kill"],
            held_back_nanousd=card.nanousd["held back"],
            alerts=_by_rule(card),
        ),
        {key: one for key, one in facts.items() if one.mode != "shadow"},
    )


class _Counting(Scorecard):
    """A scorecard that says how far it is."""

    def __init__(self, what: str, from_share: float, total: int) -> None:
        super().__init__()
        self._what, self._from, self._total = what, from_share, max(1, total)
        self._count = 0

    def message(self, message: UsageMessage, run: PastRun, fate: Fate) -> int:
        self._count += 1
        if self._count % EVERY == 0:
            _say(Progress(f"trying {self._what}", self._from + 0.45 * min(1.0, self._count / self._total)))
        return super().message(message, run, fate)


def _only_alerts(effects: Iterator[Effect]) -> Iterator[Effect]:
    return (effect for effect in effects if isinstance(effect.value, Alert))


def _by_rule(card: Scorecard) -> dict[str, int]:
    found: dict[str, int] = {}
    for (rule, _), count in card.alerts.items():
        found[rule] = found.get(rule, 0) + count
    return found


def _only(ones: dict[str, Alert], others: dict[str, Alert]) -> list[Only]:
    return [Only(one.rule, one.severity, one.summary) for key, one in ones.items() if key not in others]


def _say(line: Line) -> None:
    sys.stdout.buffer.write(encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
