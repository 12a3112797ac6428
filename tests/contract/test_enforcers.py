"""Keys at providers, switched: against stand-ins made from the providers' documentation, over HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from threading import Event
from typing import Any, Literal, cast, get_args

import pytest

from schemas.codec import encode
from schemas.edge.enforcement import Enforcement, Step
from schemas.errors import BrokerError, SettingsError
from streams.enforcer import process
from streams.enforcer.config import EnforcerSettings, Provider, read_enforcers
from streams.enforcer.enforcer import AGAIN_AT_MOST_MS, LOOK_AGAIN_MS, Enforcer, Wanted
from streams.enforcer.levers import lever_of
from streams.enforcer.metrics import EnforcerMetrics
from streams.enforcer.process import Threads
from streams.enforcer.standing import Standing
from streams.provider_api import ProviderError
from streams.tracing.enforcing import EnforcerTraces
from tests.support.kafka import wait_until
from tests.support.providers import KEY, SECRET, Providers

PROVIDERS = ("openrouter", "litellm", "anthropic", "openai")
KILLED = Wanted(closed=True, reason="acme has spent $501.00 today", command_id="c1")
RESUMED = Wanted(closed=False, reason="no command stands against it any more")
DAY_MS = 86_400_000


class Crash(Exception):
    """The process ends here."""


class Desk:
    """One enforcer that may crash at any step and begin anew with what it has written."""

    def __init__(self, providers: Providers, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADMIN_KEY", SECRET)
        self.settings = EnforcerSettings(
            name="support", provider=provider, key=KEY, secret_env="ADMIN_KEY", tenant_id="acme",
            base_url=providers.address,
        )  # fmt: skip
        self.written: list[Enforcement] = []
        self.crash_in = 0
        """The process ends instead of its so manieth write from now on; 0 for never."""
        self.now_ms = DAY_MS
        self.begin()

    def begin(self) -> None:
        """A process starts, and knows what was written."""
        known = self.written[-1] if self.written else None
        self.enforcer = Enforcer(self.settings, lever_of(self.settings), known, self._write)

    def want(self, wanted: Wanted, after_ms: int = 0) -> str | None:
        """It is looked at what stands."""
        self.now_ms += after_ms
        return self.enforcer.step(wanted, self.now_ms)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was written last."""
        return self.written[-1].steps if self.written else ()

    def _write(self, done: Enforcement) -> None:
        if self.crash_in == 1:
            raise Crash
        self.crash_in -= self.crash_in > 0
        self.written.append(done)


@pytest.fixture
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture(params=PROVIDERS)
def desk(request: pytest.FixtureRequest, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(providers, request.param, monkeypatch)


def test_a_key_is_closed_while_a_command_stands_and_then_as_it_was(desk: Desk, providers: Providers) -> None:
    """A kill closes the key once, a resume puts it back, and every step is written with its command."""
    provider = desk.settings.provider
    before = providers.standing(provider)
    assert desk.want(RESUMED) is None, "nothing was ever closed"
    assert desk.want(KILLED) == "closed"
    assert providers.is_closed(provider)
    assert desk.want(KILLED, 1000) is None
    assert len(providers.changes) == 1, "closed once, and not again and again"
    assert desk.want(RESUMED, 1000) == "open again"
    assert providers.standing(provider) == before
    assert [(one.state, one.command_id) for one in desk.steps] == [
        ("closing", "c1"), ("closed", "c1"), ("opening", None), ("open", None),
    ]  # fmt: skip


def test_a_limit_that_was_there_comes_back(providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's limit of a project is put back to the cent."""
    providers.openai = {"currency": "USD", "threshold_amount": 123_456}
    desk = Desk(providers, "openai", monkeypatch)
    desk.want(KILLED)
    assert providers.openai["threshold_amount"] == 1
    desk.want(RESUMED)
    assert providers.openai == {"currency": "USD", "threshold_amount": 123_456}


Place = Literal["before it is written", "before the provider is asked", "before it is confirmed"]
PLACES: tuple[Place, ...] = get_args(Place)


@pytest.mark.parametrize("places", [*zip(PLACES), *pairwise(PLACES), PLACES[2:] * 2])
def test_a_crash_at_any_step_is_made_good(desk: Desk, providers: Providers, places: tuple[Place, ...]) -> None:
    """Wherever the process ends, the next one closes what is to be closed, and puts back what was there at first."""
    provider = desk.settings.provider
    before = providers.standing(provider)
    for wanted in (KILLED, RESUMED):
        for place in places:
            with pytest.raises((Crash, ProviderError)):
                end_at(place, desk, providers, wanted)
            providers.refusals.clear()
            desk.begin()
        desk.want(wanted, 1)
        assert providers.is_closed(provider) == wanted.closed
    assert providers.standing(provider) == before


def end_at(place: Place, desk: Desk, providers: Providers, wanted: Wanted) -> None:
    """Have the process end there, at its next step."""
    has_begun = bool(desk.steps) and desk.steps[-1].state in ("closing", "opening")
    desk.crash_in = {PLACES[0]: 1, PLACES[1]: 0, PLACES[2]: 1 if has_begun else 2}[place]
    if place == PLACES[1]:
        reads_first = wanted.closed and not providers.is_closed(desk.settings.provider)
        providers.refusals.extend([0, 500] if reads_first else [500])
    try:
        desk.want(wanted, 1)
    finally:
        desk.crash_in = 0


def test_a_command_that_comes_back_while_the_key_is_being_opened_closes_it(desk: Desk, providers: Providers) -> None:
    """The process ends while it opens a key, and a new kill stands when it begins again: closed, and still to undo."""
    before = providers.standing(desk.settings.provider)
    desk.want(KILLED)
    desk.crash_in = 2
    with pytest.raises(Crash):
        desk.want(RESUMED, 1)
    desk.begin()
    desk.crash_in = 0
    desk.want(KILLED, 1)
    assert providers.is_closed(desk.settings.provider)
    desk.want(RESUMED, 1)
    assert providers.standing(desk.settings.provider) == before


def test_what_somebody_else_has_closed_stays_closed(desk: Desk, providers: Providers) -> None:
    """A key that was off before the kill is off after the resume."""
    providers.put_by_hand(desk.settings.provider, closed=True)
    assert "somebody else" in str(desk.want(KILLED))
    assert "somebody else" in str(desk.want(RESUMED, 1))
    assert providers.is_closed(desk.settings.provider)
    assert not providers.changes


def test_a_key_that_is_opened_by_hand_is_closed_again(desk: Desk, providers: Providers) -> None:
    """A kill is lifted by a resume alone: who opens the key by hand is undone within a minute, and it is told."""
    desk.want(KILLED)
    providers.put_by_hand(desk.settings.provider, closed=False)
    assert "somebody had opened it" in str(desk.want(KILLED, LOOK_AGAIN_MS))
    assert providers.is_closed(desk.settings.provider)
    assert desk.want(RESUMED, 1) == "open again"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_provider_that_refuses_is_asked_again_and_it_is_told(desk: Desk, providers: Providers, status: int) -> None:
    """Nothing fails in silence: it is said what to do, tried again later and later, and counted how long it is late."""
    if (desk.settings.provider, status) == ("openai", 404):
        pytest.skip("there it says that the project has no limit")
    providers.refusals.extend([status] * 3)
    for failures in (1, 2, 3):
        with pytest.raises(ProviderError, match=str(status)):
            desk.want(KILLED, AGAIN_AT_MOST_MS)
        assert desk.enforcer.failures == failures
        assert desk.want(KILLED, 1) is None, "not at once"
    assert desk.enforcer.overdue_s(desk.now_ms) > 120
    assert desk.want(KILLED, AGAIN_AT_MOST_MS) == "closed"
    assert (desk.enforcer.overdue_s(desk.now_ms), desk.enforcer.failures) == (0, 0)


@dataclass(frozen=True)
class Killed:
    """What stands, for `Threads`: a kill."""

    is_blind: bool = False

    def wanted(self, _: EnforcerSettings) -> Wanted:
        return KILLED


def test_a_wall_clock_that_is_set_back_holds_up_no_key(providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt was to be a second after the first, by a clock that was set back a day then: the key of somebody
    who was to be stopped stayed open for a day, and nothing counted as late.
    """
    desk, walls = Desk(providers, "openrouter", monkeypatch), count(90 * DAY_MS, -DAY_MS)
    monkeypatch.setattr(process, "wall_ms", lambda: next(walls))
    monkeypatch.setattr(process, "LOOK_S", 0.01)
    providers.refusals.append(503)
    with Threads([desk.enforcer], cast("Standing", Killed()), EnforcerMetrics(), EnforcerTraces(None)):
        wait_until(lambda: providers.is_closed("openrouter"), 20, "the key is closed")


def test_a_provider_that_hangs_holds_up_nobodys_end(
    providers: Providers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three calls of ten seconds each were longer than a process that is told to end may take. What was begun is
    written down, and the next start goes on with it.
    """
    monkeypatch.setattr(process, "LOOK_S", 0.01)
    monkeypatch.setattr(process, "END_S", 0.1)
    desk, hangs, let_go = Desk(providers, "openrouter", monkeypatch), Event(), Event()
    lever = lever_of(desk.settings)

    def close() -> None:
        hangs.set()
        let_go.wait(60)

    monkeypatch.setattr(lever, "close", close)
    stuck = Enforcer(desk.settings, lever, None, desk.written.append)
    with Threads([stuck], cast("Standing", Killed()), EnforcerMetrics(), EnforcerTraces(None)):
        assert hangs.wait(20)
    assert [one.state for one in desk.steps] == ["closing"]
    assert "half switched" in caplog.text
    desk.begin()
    assert desk.want(KILLED) == "closed"
    let_go.set()


def test_a_provider_that_says_yes_and_does_nothing_is_not_believed(desk: Desk, providers: Providers) -> None:
    """Only a key that is closed when it is looked at counts as closed."""
    providers.refusals.extend([0, 200, 0] if desk.settings.provider != "openai" else [404, 200, 0])
    with pytest.raises(ProviderError, match="still open"):
        desk.want(KILLED)
    assert [one.state for one in desk.steps] == ["closing"]


def test_a_step_that_cannot_be_written_is_not_taken(desk: Desk, providers: Providers) -> None:
    """Without a record of how it stood nothing is closed."""

    def refuse(_: Enforcement) -> None:
        raise BrokerError("no broker answers")

    enforcer = Enforcer(desk.settings, lever_of(desk.settings), None, refuse)
    with pytest.raises(BrokerError):
        enforcer.step(KILLED, DAY_MS)
    assert not providers.changes


def test_no_credential_is_written_or_said(desk: Desk, providers: Providers) -> None:
    """Steps and errors hold the provider's id of the key, and nothing that could be used."""
    desk.want(KILLED)
    providers.refusals.append(403)
    with pytest.raises(ProviderError) as refused:
        desk.want(RESUMED)
    assert SECRET not in str(refused.value)
    assert not any(SECRET.encode() in encode(done) for done in desk.written)


GOOD: dict[str, Any] = {"name": "a", "provider": "openrouter", "key": "k", "secret_env": "X", "tenant_id": "acme"}
FAULTS = {
    "a word nobody knows": ([GOOD | {"keys": "k"}], "enforcer a: keys"),
    "no such provider": ([GOOD | {"provider": "azure"}], "enforcer a: provider"),
    "no tenant": ([{k: v for k, v in GOOD.items() if k != "tenant_id"}], "enforcer a: tenant_id"),
    "two of one name": ([GOOD, GOOD | {"key": "other"}], "two enforcers have the name a"),
    "one key twice": ([GOOD, GOOD | {"name": "b"}], "two enforcers have the key k"),
    "a proxy without its address": ([GOOD | {"provider": "litellm"}], "needs `base_url`"),
    "nothing to act on": ([GOOD | {"on": []}], "enforcer a: on"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_faults_is_refused_by_their_place(fault: str, tmp_path: Path) -> None:
    """Every fault names its enforcer and field."""
    tables, words = FAULTS[fault]
    path = tmp_path / "enforcers.toml"
    path.write_text("".join(_toml(table) for table in tables))
    with pytest.raises(SettingsError, match=words):
        read_enforcers(path)


def test_a_missing_credential_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which variable is to be set is said, at the start."""
    monkeypatch.delenv("X", raising=False)
    with pytest.raises(SettingsError, match="X is not set"):
        lever_of(EnforcerSettings.model_validate(GOOD))


def _toml(table: dict[str, Any]) -> str:
    lines = [f"{name} = {value!r}" for name, value in table.items()]
    return "\n".join(["[[enforcer]]", *lines, ""])
