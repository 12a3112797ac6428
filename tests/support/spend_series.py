"""Hourly spend to try rules on: real teams' sessions priced by the hour, and made-up scopes with a morning peak.

The real sessions are described in their own README; half of those that were found are in the files.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random

from models.prices.book import PriceBook
from schemas.duration import HOUR_MS
from schemas.usage import LlmCall

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "agent_sessions"
PEAK_HOURS = (8, 9, 10)
BASELINE_HOURS = 168


def real_hours(source: str) -> dict[int, float]:
    """Hour since the epoch -> dollars, of all sessions of a file, over the hours in which anything was spent."""
    book = PriceBook()
    hours: Counter[int] = Counter()
    with gzip.open(FOLDER / f"{source}.sessions.jsonl.gz", "rt") as lines:
        for line in lines:
            session = json.loads(line)
            for number, event in enumerate(session["events"]):
                if event["k"] == "llm" and event.get("ts") and event.get("in") is not None:
                    charge = book.charge(_call(session["session_id"], number, event))
                    hours[event["ts"] // HOUR_MS] += charge.cost_nanousd
    return {hour: nanousd / 10**9 for hour, nanousd in sorted(hours.items()) if nanousd}


def _call(session_id: str, number: int, event: dict[str, int]) -> LlmCall:
    return LlmCall(
        event_id=f"{session_id}-{number}",
        ts_ms=event["ts"],
        tenant_id="team",
        run_id=session_id,
        model=str(event["model"]),
        input_tokens=event["in"],
        output_tokens=event.get("out") or 0,
        cache_read_tokens=event.get("cr") or 0,
        cache_write_tokens=event.get("cw") or 0,
        cache_write_1h_tokens=event.get("cw1h") or 0,
    )


def made_up(random: Random, hours: int, *, peak: float, spread: float) -> list[float]:
    """Two dollars an hour, `peak` times as much on three hours of every morning, log-normal noise on each."""
    return [usual_at(hour, peak) * random.lognormvariate(0, spread) for hour in range(hours)]


def usual_at(hour: int, peak: float) -> float:
    """The median of a made-up scope's hour."""
    return 2.0 * (peak if hour % 24 in PEAK_HOURS else 1.0)


def pages_of_the_plain_rule(hours: Iterable[tuple[int, float]]) -> list[int]:
    """Hours above five times the median of at least twelve that were not, of the week before: one page for each."""
    usual: list[tuple[int, float]] = []
    pages = []
    for hour, usd in hours:
        past = sorted(spent for at, spent in usual if at >= hour - BASELINE_HOURS)
        median = (past[(len(past) - 1) // 2] + past[len(past) // 2]) / 2 if past else 0.0
        if len(past) >= 12 and usd >= 1 and usd > 5 * median:
            pages.append(hour)
        else:
            usual.append((hour, usd))
    return pages
