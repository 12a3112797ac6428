"""`tune`: a log replayed with each rule's main settings varied, what each would have come to, and what is proposed."""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from models.rules.policy import Policy
from schemas.errors import SettingsError
from streams.process.policies import policy_in_force
from streams.settings import Settings
from streams.tools.backtest import FileLog, read_policy_file
from streams.tools.record import Range, refusals, write_record
from streams.tools.tune.judgement import Known, proposed
from streams.tools.tune.labels import read_labels
from streams.tools.tune.measure import RuleFacts, measured
from streams.tools.tune.policy_text import diff
from streams.tools.tune.report import closing, heading, table, tried
from streams.tools.tune.variants import Variant, enforced, variants


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be tuned."""

    policy: Path | None
    labels: Path | None = None
    rule: str | None = None
    """This rule only."""
    enforced: bool = False
    """As if rules that alert were to enforce."""


def run_tune(events: Path, asked: Asked) -> int:
    """Tune over a file. Returns the exit code; raises `SpendfuseError`."""
    if not events.exists():
        raise SettingsError(f"there is no file {events}")
    print("\n".join(_report(FileLog(events, progress=True), read_policy_file(asked.policy), asked)))
    return 0


def run_topic_tune(settings: Settings, span: Range, asked: Asked) -> int:
    """Tune over what the topics hold of a stretch of time, from the policy in force unless a file is given."""
    policy = policy_in_force(settings) if asked.policy is None else read_policy_file(asked.policy)
    with TemporaryDirectory(prefix="spendfuse-") as folder:
        path = Path(folder) / "record.jsonl"
        for line in refusals(settings, write_record(settings, span, path)):
            print(line, file=sys.stderr)
        log = FileLog(path, progress=True, name="usage.v1")
        print("\n".join(_report(log, policy, asked)))
    return 0


def _report(log: FileLog, policy: Policy, asked: Asked) -> list[str]:
    if asked.rule is not None and asked.rule not in policy.rules:
        raise SettingsError(f"no rule is called {asked.rule!r}; there are {', '.join(policy.rules)}")
    labels = read_labels(asked.labels)
    base = enforced(policy) if asked.enforced else policy
    to_try = variants(base, asked.rule)
    bar: tqdm[Any]
    with tqdm(total=len(to_try) + 1, desc="replays", unit="replay", disable=None, leave=False) as bar:
        now = measured(base, log)
        bar.update()
        others: dict[str, list[tuple[Variant, RuleFacts]]] = {}
        for variant in to_try:
            facts = measured(variant.policy, log).rules[variant.rule]
            others.setdefault(variant.rule, []).append((variant, facts))
            bar.update()
    known = Known(labels, now.log)
    found = [tried(rule, now.rules[rule], facts_tried, known) for rule, facts_tried in others.items()]
    lines = heading(now, known, len(to_try) + 1)
    for one in found:
        if not one.is_silent:
            lines += table(one, base, now.log.last_ms - now.log.first_ms)
    best = [proposed(one.now, one.others, pages=one.pages)[0] for one in found]
    chosen = [variant for variant in best if variant is not None]
    return [*lines, *closing([one.rule for one in found if one.is_silent], _difference(policy, asked, chosen))]


def _difference(policy: Policy, asked: Asked, chosen: list[Variant]) -> list[str]:
    """The proposals as a diff of the policy file; without a file, of an empty one, whose rules are the defaults."""
    if not chosen:
        return []
    text = "" if asked.policy is None else asked.policy.read_text(encoding="utf-8")
    return diff(asked.policy.name if asked.policy is not None else "policy.toml", text, policy, chosen)
