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
    """At most two pages a week of a team in which nothing is known to have gone wrong, and never more than by the
    plain multiple of the median; nobody is told of for being new.
    """
    hours = real_hours(source)
    rule = rule_of()
    run = HourlyDriver(rule, scope_of(rule))
    for hour, usd in hours.items():
        run.spend(hour * HOUR_MS + HOUR_MS // 2, usd)
    weeks = max(1.0, (max(hours) - min(hours) + 1) / 168)
    plain = pages_of_the_plain_rule(hours.items())
    with capsys.disabled():
        print(
            f"\n  {source}: {len(hours)} active hours in {weeks:.1f} weeks, dearest ${max(hours.values()):.2f}; "
            f"pages {len(run.said())}, by the plain multiple {len(plain)}"
        )
    assert len(run.said()) <= min(2 * weeks, len(plain))
    assert run.said("without-history") == []
    assert not run.reopened
