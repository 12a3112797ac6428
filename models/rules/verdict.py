"""From finding to action, as one table."""

from models.rules.finding import Finding
from schemas.policy import Action, Mode

COMMANDS: dict[tuple[Mode, bool], bool] = {
    ("shadow", False): False,
    ("shadow", True): False,
    ("alert", False): False,
    ("alert", True): False,
    ("enforce", False): False,
    ("enforce", True): True,
}
"""(mode of the rule, whether the finding is sure) -> whether its command is given."""


def verdict(mode: Mode, finding: Finding, *, late: bool) -> Action | None:
    """The command to give, None to tell and nothing more.

    Spend that arrives for a period already closed commands nothing: its runs are not the ones spending now.
    """
    sure = finding.action is not None and finding.level >= 1 and not late
    return finding.action if COMMANDS[mode, sure] else None
