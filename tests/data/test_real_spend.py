"""`hourly_spend` with its defaults over what real teams spent by the hour."""

import pytest

from schemas.duration import HOUR_MS
from tests.support.hourly import HourlyDriver, rule_of, scope_of
from tests.support.spend_series import FOLDER, pages_of_the_plain_rule, real_hours

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the real sessions in ../shared/data, which are not here"),
]


@pytest.mark.parametrize("source", ["entire_cli", "iso_trae", "mini_gemini3"])
def test_pages_a_week_on_real_spend(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At most one page in three weeks of a team in which nothing is known to have gone wrong, and one message of any
    kind a week: its busy afternoons are no news. Nobody is told of for being new.
    """
    hours = real_hours(source)
    rule = rule_of()
    run = HourlyDriver(rule, scope_of(rule))
    for hour, usd in hours.items():
        run.spend(hour * HOUR_MS + HOUR_MS // 2, usd)
    weeks = max(1.0, (max(hours) - min(hours) + 1) / 168)
    plain = pages_of_the_plain_rule(hours.items())
    paged = [told for told in run.told if told.what == "breach" and told.finding.level >= 1]
    with capsys.disabled():
        print(
            f"\n  {source}: {len(hours)} active hours in {weeks:.1f} weeks, dearest ${max(hours.values()):.2f}; "
            f"told {len(run.said())}, paged {len(paged)}, by the plain multiple {len(plain)}"
        )
    assert len(run.said()) <= weeks
    assert len(paged) <= max(1.0, weeks / 3)
    assert run.said("without-history") == []
    assert not run.reopened
