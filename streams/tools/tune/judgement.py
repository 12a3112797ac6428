"""How good a setting was, as far as anybody knows: labels, verdicts of people, kills that turned out to be false."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.operator import Verdict
from streams.tools.tune.measure import Log, RuleFacts, Told
from streams.tools.tune.variants import Variant

FEW: Final = 10
"""With fewer judged incidents nobody can say which setting is better."""
MARGIN: Final = 3
"""A difference of one or two incidents may be chance."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one rule came to under one policy."""

    pages: int
    notices: int
    kills: int
    false_kills: int
    saved_nanousd: int
    verdicts: Mapping[Verdict, int]
    right: frozenset[str]
    """Incidents that are known to be right to tell: of those that page, or of all if the rule never pages."""
    wrong: frozenset[str]
    """Those that are known to be wrong."""
    found: int
    """Runs labelled `stuck` that are told of, by a page if the rule pages."""
    stuck: int
    """Runs labelled `stuck` that are in the log."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the log's runs, whatever the policy."""

    labels: Mapping[str, bool]
    log: Log

    def is_right(self, incident_id: str, told: Told, facts: RuleFacts) -> bool | None:
        """Whether it was right to tell of an incident; None where nobody knows. A label goes before all else."""
        labelled = [self.labels[unit] for unit in told.units if unit in self.labels]
        if labelled:
            return any(labelled)
        if any(facts.kills.get(kill) == incident_id for kill in facts.false_kills):
            return False
        verdict = self.log.verdicts.get(incident_id)
        return {"useful": True, "noise": False}.get(verdict or "")

    def figures(self, facts: RuleFacts, *, pages: bool) -> Figures:
        """What a rule came to; with `pages` only incidents that page are judged."""
        judged = {
            incident_id: self.is_right(incident_id, told, facts)
            for incident_id, told in facts.told.items()
            if told.pages or not pages
        }
        stuck = {unit for unit, is_wrong in self.labels.items() if is_wrong and unit in self.log.units}
        reached = {unit for incident_id in judged for unit in facts.told[incident_id].units}
        verdicts: dict[Verdict, int] = {}
        for incident_id in facts.told:
            if (verdict := self.log.verdicts.get(incident_id)) is not None:
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
        return Figures(
            pages=sum(told.pages for told in facts.told.values()),
            notices=sum(not told.pages for told in facts.told.values()),
            kills=len(facts.kills),
            false_kills=len(facts.false_kills),
            saved_nanousd=facts.saved_nanousd,
            verdicts=verdicts,
            right=frozenset(one for one, is_right in judged.items() if is_right),
            wrong=frozenset(one for one, is_right in judged.items() if is_right is False),
            found=len(stuck & reached),
            stuck=len(stuck),
        )


def proposed(now: Figures, tried: list[tuple[Variant, Figures]], *, pages: bool) -> tuple[Variant | None, str]:
    """The setting to propose, if the log says enough for one, and why or why not.

    A setting is better if it tells of nothing less that was right and of less that was wrong, or of more that was right
    and of nothing more that was wrong, by more than what may be chance.
    """
    noun = "page" if pages else "notice"
    known = now.right | now.wrong
    for _, figures in tried:
        known |= figures.right | figures.wrong
    if not tried:
        return None, "it has no setting that could be tried"
    if not known:
        return None, f"nobody has judged a {noun} of it: give --labels, or `feedback` on its incidents"
    if len(known) < FEW:
        return None, f"{len(known)} judged {noun}{'' if len(known) == 1 else 's'}: too few to say"
    better = [(variant, figures) for variant, figures in tried if _is_better(figures, now)]
    if not better:
        return None, f"no setting is clearly better by {len(known)} judged {noun}s: keep it"
    best, figures = min(better, key=lambda one: (len(one[1].wrong) - len(one[1].right), one[0].change))
    return best, (
        f"{noun}s known to be wrong {len(now.wrong)} -> {len(figures.wrong)}, right "
        f"{len(now.right)} -> {len(figures.right)}"
    )


def _is_better(figures: Figures, now: Figures) -> bool:
    less_wrong = len(now.wrong) - len(figures.wrong)
    more_right = len(figures.right) - len(now.right)
    return now.right <= figures.right and less_wrong >= 0 and max(less_wrong, more_right) >= MARGIN
