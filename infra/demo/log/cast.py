"""The demo's five tenants: whose real runs each of them gets, and what its usual hour costs."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random

from infra.demo.log import sources
from infra.demo.log.calendar import OFFICE, ROUND_THE_CLOCK, active_hours, today_at
from infra.demo.log.schedule import Kind, Placed, fill, spend_by_hour, spread
from infra.demo.log.trajectories import Trajectory

USD = 10**9

BUDGET_HOUR_MS = today_at(14)
"""acme's hour that crosses its budget."""
SPIKE_HOUR_MS = today_at(16)
"""globex's hour at a multiple of its median."""
CIRCLING_START_MS = today_at(11) + 4 * 60_000
"""A real run that went in circles of five calls until its harness stopped it; no limit in money notices it."""
RUNAWAY_MINUTE = 3
"""Of the budget hour: start of the most expensive real run, which passes the cap of a run on its own."""
RUSH_MINUTES = (24, 32, 40, 46)
"""Of the budget hour: starts of the next four by cost, so that the hour passes its limit with the runaway stopped."""

ACME_CODING = Kind("acme", "coding-agent", "ana", "platform", "openhands", "coding-v4")
ACME_MINISWE = Kind("acme", "coding-agent", "ana", "platform", "mini-swe-agent", "coding-v4")
ACME_TERMINAL = Kind("acme", "coding-agent", "ana", "platform", "terminal", "coding-v4")
ACME_CHAT = Kind("acme", "chat", "bo", "assistant", "assistant", "chat-v2")
GLOBEX_CHAT = Kind("globex", "chat", "chen", "helpline", "assistant", "chat-v6")
GLOBEX_CHAT_NEW = Kind("globex", "chat", "chen", "helpline", "assistant", "chat-v7")
GLOBEX_SMALL_TALK = Kind("globex", "small-talk", "chen", "helpline", "assistant", "talk-v1")
HOOLI_SUPPORT = Kind("hooli", "support-bot", "dara", "airline", "support-bot", "support-v3")
INITECH_DOCS = Kind("initech", "docs-agent", "eli", "handbook", "docs-agent", "docs-v1")
INITECH_SEARCH = Kind("initech", "docs-search", "eli", "handbook", "docs-search", "search-v5")
VANDELAY_COMPLETION = Kind("vandelay", "code-completion", "fay", "editor", "completion", "completion-v9", priced=False)
VANDELAY_REPAIR = Kind("vandelay", "repair-bot", "gus", "nightly", "repairagent", "repair-v2", environment="staging")
VANDELAY_PATCH = Kind("vandelay", "repair-bot", "gus", "nightly", "autocoderover", "repair-v2", environment="staging")
VANDELAY_TRIAGE = Kind("vandelay", "triage", "gus", "nightly", "triage", "triage-v1")


class Conversations:
    """The chat trace's conversations, dealt out so that no two tenants get the same one."""

    def __init__(self, data: Path) -> None:
        self._dealt = {model: sources.mooncake(data, model) for model in ("claude-opus-4-8", "gpt-4o", "gpt-4.1")}

    def share(self, model: str, first: int) -> deque[Trajectory]:
        """Every third conversation from `first` on, on that model."""
        return deque(self._dealt[model][first::3])


def acme(data: Path, chats: Conversations, rng: Random) -> list[Placed]:
    """Coding agents and an assistant in office hours; one hour today runs over its budget."""
    hours = list(active_hours(OFFICE, weekend_share=0.0))
    calm = [hour for hour, _ in hours if hour != BUDGET_HOUR_MS]
    agents = sources.labelled(data, "openhands", "claude-sonnet-4-5", (15_000, 35_000), rng)
    agents.sort(key=lambda run: run.cost_nanousd)
    runaway, circling = agents.pop(), agents.pop()
    rush = [agents.pop() for _ in RUSH_MINUTES]
    placed = [
        *spread(ACME_CODING, agents, calm, rng),
        *spread(ACME_MINISWE, sources.lmcache(data, "miniswe", "claude-sonnet-4-5"), calm, rng),
        *spread(ACME_TERMINAL, sources.tracelab(data), calm, rng),
        Placed(ACME_CODING, circling.on("claude-haiku-4-5"), CIRCLING_START_MS),
        Placed(ACME_CODING, runaway, _minute(RUNAWAY_MINUTE)),
        *(Placed(ACME_CODING, run, _minute(minute)) for minute, run in zip(RUSH_MINUTES, rush, strict=True)),
    ]
    targets = _targets(hours, usual_usd=3.2, rng=rng)
    targets[BUDGET_HOUR_MS] = round(14.8 * USD)
    return placed + fill(ACME_CHAT, chats.share("claude-opus-4-8", 0), targets, spend_by_hour(placed), rng)


def _minute(minute: int) -> int:
    return BUDGET_HOUR_MS + minute * 60_000


def globex(data: Path, chats: Conversations, rng: Random) -> list[Placed]:
    """A chat service around the clock; one hour today a new prompt version multiplies its spend."""
    hours = list(active_hours(ROUND_THE_CLOCK, weekend_share=0.7))
    pool = chats.share("gpt-4o", 1)
    targets = _targets(hours, usual_usd=0.55, rng=rng)
    small_talk = sources.azure(data, "conv", "gpt-4o-mini", calls_per_run=6)[:150]
    placed = spread(GLOBEX_SMALL_TALK, small_talk, [hour for hour, _ in hours], rng)
    spike = fill(GLOBEX_CHAT_NEW, pool, {SPIKE_HOUR_MS: round(4.4 * USD)}, {}, rng)
    del targets[SPIKE_HOUR_MS]
    usual = fill(GLOBEX_CHAT, pool, targets, spend_by_hour(placed), rng)
    return [*placed, *spike, *usual]


def hooli(data: Path, rng: Random) -> list[Placed]:
    """Airline support, every day of the week."""
    shape = dict.fromkeys(range(7, 21), 1.0)
    hours = [hour for hour, _ in active_hours(shape, weekend_share=1.0)]
    return spread(HOOLI_SUPPORT, sources.tau_bench(data, rng), hours, rng)


def initech(data: Path, chats: Conversations, rng: Random) -> list[Placed]:
    """Agents that read and write documentation."""
    hours = list(active_hours(OFFICE, weekend_share=0.0))
    placed = spread(INITECH_DOCS, sources.lmcache(data, "magagent", "gpt-4.1"), [hour for hour, _ in hours], rng)
    targets = _targets(hours, usual_usd=0.8, rng=rng)
    return placed + fill(INITECH_SEARCH, chats.share("gpt-4.1", 2), targets, spend_by_hour(placed), rng)


def vandelay(data: Path, rng: Random) -> list[Placed]:
    """Cheap and busy; its editor reports tokens but no prices."""
    hours = [hour for hour, _ in active_hours(OFFICE, weekend_share=0.0)]
    night = [hour for hour, _ in active_hours({2: 1.0, 3: 1.0, 4: 1.0}, weekend_share=1.0)]
    completions = sources.azure(data, "code", "gpt-4o-mini", calls_per_run=6)[:280]
    return [
        *spread(VANDELAY_COMPLETION, completions, hours, rng),
        *spread(
            VANDELAY_REPAIR, sources.labelled(data, "repairagent", "gpt-4.1-mini", (6_000, 20_000), rng), night, rng
        ),
        *spread(VANDELAY_PATCH, sources.labelled(data, "autocoderover", "gpt-4o", (6_000, 20_000), rng), night, rng),
        *spread(VANDELAY_TRIAGE, sources.lmcache(data, "taubench", "gpt-4o"), hours, rng),
    ]


def everyone(data: Path, rng: Random) -> list[Placed]:
    """All runs of all tenants, the planted loop excepted."""
    chats = Conversations(data)
    return [
        *acme(data, chats, rng),
        *globex(data, chats, rng),
        *hooli(data, rng),
        *initech(data, chats, rng),
        *vandelay(data, rng),
    ]


def _targets(hours: Sequence[tuple[int, float]], usual_usd: float, rng: Random) -> dict[int, int]:
    return {hour: round(usual_usd * share * rng.uniform(0.85, 1.15) * USD) for hour, share in hours}
