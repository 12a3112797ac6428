"""A policy tried on a log of the past: the live engine, no broker, effects as JSON lines, then a scorecard."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from models.effects import Effect
from models.rules.policy import Policy, default_policy, read_policy_toml
from schemas.alert import Alert
from schemas.codec import encode
from schemas.errors import SettingsError
from streams.tools.event_log import Line, read_log, survey_log
from streams.tools.replay.replay import REACTION_MS, Replay
from streams.tools.scorecard import Scorecard

FACTS = ("open", "escalated")


def read_policy_file(path: Path | None) -> Policy:
    """The policy of a file, the defaults without one. Raises `SettingsError` or `PolicyError`."""
    if path is None:
        return default_policy()
    try:
        return read_policy_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a backtest is asked to do, beside its policy and its log."""

    reaction_ms: int = REACTION_MS
    """How long after its kill a run still makes calls."""
    as_recorded: bool = False
    """Nobody obeys: everything is as it is in the log."""
    keeps_policy: bool = False
    """The policies in the log are left out."""
    shows_runs: bool = False
    """Records of runs are written as well: there are many, and what they tell follows from the log."""


def effects_of(policy: Policy, events: Path, scorecard: Scorecard, *, progress: bool) -> Iterator[Effect]:
    """What the live engine would have published over the events of a file as they are, in order.

    When the file ends, time stands at its latest event.
    """
    log = FileLog(events, progress=progress)
    yield from Replay(policy, scorecard, as_recorded=True).effects(log.lines())


class FileLog:
    """A file that is read once for each policy, and once before that."""

    def __init__(self, path: Path, *, progress: bool, name: str | None = None) -> None:
        """`name` is what people know the file by."""
        self._path = path
        self._name = name
        self._progress = progress
        with self._bar("looking through") as bar:
            self._survey = survey_log(path, bar.update)

    @property
    def moved(self) -> list[str]:
        """Whose lines have times that cannot be true, in words."""
        return [
            f"{tenant_id}: {count:,} counted when the lines around them were"
            for tenant_id, count in sorted(self._survey.moved.items())
        ]

    @property
    def answered(self) -> frozenset[str]:
        """Commands whose answers are in the file."""
        return self._survey.answered

    def lines(self) -> Iterator[Line]:
        """The lines of the file, with progress on standard error."""
        with self._bar(self._name or self._path.name) as bar:
            yield from read_log(self._path, bar.update, self._survey, self._name)

    def _bar(self, what: str) -> "tqdm[Any]":
        return tqdm(
            total=self._path.stat().st_size if self._path.is_file() else None,
            unit="B",
            unit_scale=True,
            desc=what,
            disable=None if self._progress else True,
            leave=False,
        )


def line_of(effect: Effect) -> bytes:
    """An effect as a JSON line: `{"topic": …, "key": …, "value": …}`."""
    return encode({"topic": effect.topic, "key": effect.key, "value": effect.value}) + b"\n"


def run_backtest(
    policy: Path | None, events: Path, out: Path | None, against: Path | None, asked: Asked | None = None
) -> int:
    """Run a backtest; with `against`, run the other policy as well and say what differs. Returns the exit code.

    Effects go to `out` and the scorecard to standard output; without `out`, effects go to standard output and the
    scorecard to standard error.
    """
    if not events.exists():
        raise SettingsError(f"there is no file {events}")
    ours = read_policy_file(policy)
    theirs = None if against is None else read_policy_file(against)
    return run_log(FileLog(events, progress=True), ours, out, theirs, str(against), asked or Asked())


def run_log(
    log: FileLog, policy: Policy, out: Path | None, against: Policy | None, other_name: str, asked: Asked
) -> int:
    """Run a backtest over a log, as `run_backtest`; the other policy is called `other_name`."""
    with ExitStack() as stack:
        lines: IO[bytes] = stack.enter_context(out.open("wb")) if out is not None else sys.stdout.buffer
        said = sys.stdout if out is not None else sys.stderr
        card = Scorecard()
        effects = replayed(policy, log, card, asked)
        facts = _write(lines, (one for one in effects if one.topic != "runs.v1" or asked.shows_runs))
        lines.flush()
        print(card.text(), file=said)
        if against is not None:
            other = Scorecard()
            other_facts = facts_of(replayed(against, log, other, asked))
            print(f"\nagainst {other_name}:\n{other.text()}\n", file=said)
            print(_difference(facts, other_facts), file=said)
    return 0


def replayed(policy: Policy, log: FileLog, scorecard: Scorecard, asked: Asked) -> Iterator[Effect]:
    """What the live engine would have published over a log, its last hour included, in order."""
    replay = Replay(
        policy,
        scorecard,
        reaction_ms=asked.reaction_ms,
        as_recorded=asked.as_recorded,
        keeps_policy=asked.keeps_policy,
        answered=log.answered,
    )
    for detail in log.moved:
        scorecard.aside("wrong times", detail)
    yield from replay.effects(log.lines())
    yield from replay.last_hour()


def _write(lines: IO[bytes], effects: Iterator[Effect]) -> dict[str, Alert]:
    facts: dict[str, Alert] = {}
    for effect in effects:
        lines.write(line_of(effect))
        _note(facts, effect)
    return facts


def facts_of(effects: Iterator[Effect]) -> dict[str, Alert]:
    """Alert id -> what was told, of all that opened or went on."""
    facts: dict[str, Alert] = {}
    for effect in effects:
        _note(facts, effect)
    return facts


def _note(facts: dict[str, Alert], effect: Effect) -> None:
    if isinstance(effect.value, Alert) and effect.value.state in FACTS:
        facts[effect.value.alert_id] = effect.value


def _difference(ours: dict[str, Alert], theirs: dict[str, Alert]) -> str:
    lines = [f"both: {len(ours.keys() & theirs.keys())} alerts"]
    for title, mine, other in (("only with the first policy", ours, theirs), ("only with the second", theirs, ours)):
        alone = [alert for alert_id, alert in mine.items() if alert_id not in other]
        lines.append(f"{title}: {len(alone)} alerts")
        lines += [f"  {alert.severity:<8} {alert.rule}: {alert.summary}" for alert in alone[:20]]
        if len(alone) > 20:
            lines.append(f"  … and {len(alone) - 20} more")
    return "\n".join(lines)
