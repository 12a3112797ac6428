"""What people read: a table for each rule, what is proposed, and how much that rests on. In 100 columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap

from models.rules.policy import Policy
from schemas.duration import DAY_MS, format_duration
from schemas.money import format_usd
from streams.tools.inspection.terminal import clipped
from streams.tools.tune.judgement import FEW, Figures, Known, proposed
from streams.tools.tune.measure import Measure, RuleFacts
from streams.tools.tune.policy_text import toml
from streams.tools.tune.variants import Variant

WIDTH = 100
_NAME = 26
_COLUMNS = {
    "pages/day": 10, "notices/day": 12, "kills": 6, "false": 6, "saved": 10, "u/n/p": 10, "precision": 10, "recall": 10,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule, as it is and with other settings."""

    rule: str
    now: Figures
    others: list[tuple[Variant, Figures]]
    pages: bool
    """Whether its pages are judged; the notices of a rule that never pages are."""

    @property
    def is_silent(self) -> bool:
        """Whether it says nothing under any setting."""
        return not any(one.pages or one.notices for one in (self.now, *(figures for _, figures in self.others)))


def tried(rule: str, now: RuleFacts, others: list[tuple[Variant, RuleFacts]], known: Known) -> Tried:
    """What is known of a rule's settings."""
    pages = any(told.pages for facts in (now, *(other for _, other in others)) for told in facts.told.values())
    figures = [(variant, known.figures(other, pages=pages)) for variant, other in others]
    return Tried(rule, known.figures(now, pages=pages), figures, pages)


def heading(measure: Measure, known: Known, replays: int) -> list[str]:
    """What the log holds, and what is known of it."""
    log, events = measure.log, measure.events.total()
    spent = format_usd(measure.nanousd.total())
    span = format_duration(log.last_ms - log.first_ms)
    in_log = [is_wrong for unit, is_wrong in known.labels.items() if unit in log.units]
    labels = f"labels: {len(known.labels):,}, of them in the log {len(in_log):,}, stuck {sum(in_log):,}"
    lines = [
        f"{events:,} events in {span}, {spent}; {replays} replays",
        f"{labels}   verdicts of people: {len(log.verdicts):,}",
    ]
    if log.last_ms - log.first_ms < DAY_MS:
        lines.append("The log is shorter than a day: figures per day are those of the whole log.")
    return [
        *lines,
        "u/n/p: incidents that people called useful, noise, planned. false: killed, but accepted later.",
        "",
    ]


def table(one: Tried, policy: Policy, log_ms: int) -> list[str]:
    """The figures of a rule's settings, the present ones first, and what follows."""
    rule = policy.rules[one.rule]
    days = max(log_ms / DAY_MS, 1.0)
    head = "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())
    lines = [clipped(f"{one.rule} ({rule.name}, {rule.settings.mode})", WIDTH), f"{'':<{_NAME}}{head}"]
    lines.append(_row("as it is", one.now, days))
    lines += [_row(f"{other.setting} = {toml(other.value)}", figures, days) for other, figures in one.others]
    variant, why = proposed(one.now, one.others, pages=one.pages)
    says = (
        why
        if variant is None
        else f"proposed: {variant.setting} = {toml(variant.value)}, now {toml(variant.was)}: {why}"
    )
    return [*lines, *wrap(f"-> {says}", WIDTH, subsequent_indent="   "), ""]


def _row(name: str, figures: Figures, days: float) -> str:
    judged = len(figures.right) + len(figures.wrong)
    cells = [
        f"{figures.pages / days:.2f}",
        f"{figures.notices / days:.2f}",
        f"{figures.kills:,}",
        f"{figures.false_kills:,}",
        format_usd(figures.saved_nanousd),
        "/".join(str(figures.verdicts.get(verdict, 0)) for verdict in ("useful", "noise", "planned")),
        f"{len(figures.right)} of {judged}" if judged else "-",
        f"{figures.found} of {figures.stuck}" if figures.stuck else "-",
    ]
    return f"{clipped(name, _NAME):<{_NAME}}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)
    )


def closing(silent: Iterable[str], lines: list[str]) -> list[str]:
    """What there is nothing to say of, the difference that is proposed, and what to do with it."""
    names = ", ".join(silent)
    said = wrap(f"No incident under any setting tried: {names}.", WIDTH) if names else []
    if not lines:
        return [*said, "Nothing is proposed."]
    note = (
        f"Proposed from the log that it was measured on, by {FEW} judged incidents or more of each rule. Try it on "
        "another stretch of time, or in shadow, before you publish it. Nothing was written."
    )
    return [*said, "", *lines, "", *wrap(note, WIDTH)]
