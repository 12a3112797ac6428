"""A policy tried on a log of the past: the live engine, no broker, effects as JSON lines, then a scorecard."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tqdm import tqdm

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy, default_policy, read_policy_toml
from models.stimuli import Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import encode
from schemas.errors import SettingsError
from streams.tools.event_log import read_log
from streams.tools.scorecard import Scorecard

FACTS = ("open", "escalated")
SETTLE_EVERY = 1000


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


def effects_of(policy: Policy, events: Path, scorecard: Scorecard, *, progress: bool) -> Iterator[Effect]:
    """What the live engine would have published over the events of a file, in order.

    Every event counts as appended at its own time. When the file ends, time stands at its latest event.
    """
    engine = Engine(policy)
    latest_ms = 0
    with tqdm(
        total=events.stat().st_size if events.is_file() else None,
        unit="B",
        unit_scale=True,
        desc=events.name,
        disable=None if progress else True,
        leave=False,
    ) as bar:
        for number, stimulus in enumerate(read_log(events, bar.update)):
            if isinstance(stimulus, UsageSeen):
                latest_ms = max(latest_ms, stimulus.append_ms)
                scorecard.message(stimulus.message)
            engine.handle(stimulus)
            if engine.has_effects:
                for effect in engine.take_effects():
                    scorecard.effect(effect)
                    yield effect
            if number % SETTLE_EVERY == 0:
                engine.settle()
    engine.handle(Ticked(latest_ms))
    for effect in engine.take_effects():
        scorecard.effect(effect)
        yield effect


def line_of(effect: Effect) -> bytes:
    """An effect as a JSON line: `{"topic": …, "key": …, "value": …}`."""
    return encode({"topic": effect.topic, "key": effect.key, "value": effect.value}) + b"\n"


def run_backtest(policy: Path | None, events: Path, out: Path | None, against: Path | None) -> int:
    """Run a backtest; with `against`, run the other policy as well and say what differs. Returns the exit code.

    Effects go to `out` and the scorecard to standard output; without `out`, effects go to standard output and the
    scorecard to standard error.
    """
    if not events.exists():
        raise SettingsError(f"there is no file {events}")
    ours = read_policy_file(policy)
    theirs = read_policy_file(against) if against is not None else None
    with ExitStack() as stack:
        lines: IO[bytes] = stack.enter_context(out.open("wb")) if out is not None else sys.stdout.buffer
        said = sys.stdout if out is not None else sys.stderr
        card = Scorecard()
        facts = _write(lines, effects_of(ours, events, card, progress=True))
        lines.flush()
        print(card.text(), file=said)
        if theirs is not None:
            other = Scorecard()
            other_facts = _facts(effects_of(theirs, events, other, progress=True))
            print(f"\nagainst {against}:\n{other.text()}\n", file=said)
            print(_difference(facts, other_facts), file=said)
    return 0


def _write(lines: IO[bytes], effects: Iterator[Effect]) -> dict[str, Alert]:
    facts: dict[str, Alert] = {}
    for effect in effects:
        lines.write(line_of(effect))
        _note(facts, effect)
    return facts


def _facts(effects: Iterator[Effect]) -> dict[str, Alert]:
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
