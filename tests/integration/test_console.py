"""The live page over HTTP: who gets in, what each may see, what an order takes, and what hostile names come to."""

import re
from collections.abc import Iterator

import pytest

from schemas.codec import decode_operator
from schemas.duration import HOUR_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import Acknowledge, Kill, Resume, Silence
from schemas.signing import OperatorKey, operator_signed
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.access_keys import run_revoke
from tests.support.console_process import ConsoleProcess, Reader, attributes, page_key
from tests.support.console_world import USD, World, alert_of, calls_of, kill_of, rollup_of, run_record
from tests.support.gateway_process import operator_of
from tests.support.kafka import RealKafka, TopicSpace, delete_topics, fresh_prefix, read_all, wait_until
from tests.support.service_process import OPERATOR_KEY

pytestmark = pytest.mark.kafka

MARK = "foreign-to-acme"
"""Stands in every name of the other tenant."""
HOSTILE = (
    "<script>alert(1)</script>",
    "\u202eevil\u202c\u0000\u200b",
    '"><img src=x onerror=alert(2)>',
    "x" * 65_000,
)


class Stage:
    """A console, a world, and keys."""

    def __init__(self, console: ConsoleProcess, world: World, topics: TopicSpace, keys: dict[str, str]) -> None:
        self.console, self.world, self.topics, self.keys = console, world, topics, keys

    def reader(self, key: str | None) -> Reader:
        """Somebody who is logged in with that key."""
        return Reader(self.console.console_port, None if key is None else self.keys[key])

    def wait_shown(self, reader: Reader, path: str, text: str) -> str:
        """Wait until a page shows a text; returns the page."""
        wait_until(lambda: text in reader.get(path).text, 20, f"{text!r} on {path}")
        return reader.get(path).text


@pytest.fixture(scope="module")
def stage(kafka: RealKafka) -> Iterator[Stage]:
    """One for all tests of this file."""
    topics = TopicSpace(kafka.bootstrap, fresh_prefix(), 4)
    apply(Admin(Settings(kafka_bootstrap=kafka.bootstrap)), topics.prefix, topics.partitions, replication=1)
    world = World(topics.bootstrap, topics.prefix)
    hour_ms = wall_ms() // HOUR_MS * HOUR_MS
    for tenant_id in ("acme", MARK):
        world.rollups(rollup_of(tenant_id, 7 * USD, hour_ms, workflow=f"{tenant_id}-work"))
        world.runs(run_record(f"{tenant_id}-run", tenant_id, workflow=f"{tenant_id}-work"))
        world.usage(calls_of(f"{tenant_id}-run", 5, tenant_id))
        world.commands(kill_of(f"{tenant_id}-run", tenant_id))
        world.alerts(alert_of(f"{tenant_id}-run", tenant_id))
    for number, name in enumerate(HOSTILE):
        world.runs(run_record(f"hostile-{number}", workflow=name[:64_000], owner=name, model=name))
        world.alerts(alert_of(f"hostile-{number}", summary=name, rule=name[:256], owner=name))
    keys = {
        "reader": page_key(topics, "acme", "read"),
        "operator": page_key(topics, "acme", "read", "operate"),
        "guard": page_key(topics, "acme", "guard"),
        "all": page_key(topics, ALL_TENANTS, "read", "operate"),
        "revoked": page_key(topics, "acme", "read"),
    }
    with ConsoleProcess(topics.bootstrap, topics.prefix) as console:
        console.wait_ready()
        yield Stage(console, world, topics, keys)
        assert console.stop() == 0, console.tail()
    delete_topics(topics.bootstrap, topics.prefix)


PAGES = ("/", "/run?tenant=acme&run=acme-run", "/incident?tenant=acme&incident=inc-acme-run", "/policy", "/week",
         "/order/kill?tenant=acme&run=acme-run")  # fmt: skip
STREAMS = ("/live/now", "/live/run?tenant=acme&run=acme-run", "/live/incident?tenant=acme&incident=inc-acme-run")


def test_a_login_is_a_cookie_that_no_script_and_no_other_site_gets(stage: Stage) -> None:
    """HttpOnly, SameSite=Strict, and without the key in it; it ends with the logout, which takes the session's form."""
    reader = stage.reader("reader")
    page = reader.get("/")
    assert page.status == 200
    for text in (page.text, reader.cookie or "", stage.console.text):
        assert stage.keys["reader"] not in text
        assert stage.keys["reader"].rsplit("_", 1)[1] not in text
    assert reader.post("/logout", {"form": "of another"}).status == 303
    again = stage.reader("reader")
    cookie = again.cookie
    assert again.post("/logout", {"form": again.get("/").form}).status == 303
    assert again.cookie is None
    again.cookie = cookie
    assert again.get("/").status == 303, "a cookie that was logged out is worth nothing"


def test_the_cookie_says_so(stage: Stage) -> None:
    """Its attributes, and those of a console with a certificate."""
    reader = Reader(stage.console.console_port)
    page = reader.post("/login", {"key": stage.keys["reader"]})
    said = attributes(page.headers["set-cookie"])
    assert said["httponly"] is True
    assert said["samesite"] == "Strict"
    assert "secure" not in said, "plain HTTP would lose it"


def test_every_answer_forbids_what_is_not_ours(stage: Stage) -> None:
    """A strict content policy without inline scripts or styles, and no frames, on pages, streams, files and faults."""
    reader = stage.reader("operator")
    for path in (*PAGES, "/login", "/static/console.js", "/static/console.css", "/nowhere"):
        headers = reader.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert headers["x-content-type-options"] == "nosniff", path
    page = reader.get("/week/review?week=" + _first_week(reader))
    assert "sandbox" in page.headers["content-security-policy"]
    assert "script" not in page.headers["content-security-policy"]
    for path in PAGES:
        text = reader.get(path).text
        assert "style=" not in text, path
        assert " on" not in _tags(text), path


def _first_week(reader: Reader) -> str:
    text = reader.get("/week").text
    return text.split("/week?week=")[1][:8]


def _tags(text: str) -> str:
    """All that stands between angle brackets, without values."""
    return " ".join(re.sub(r'"[^"]*"', "", tag) for tag in re.findall(r"<[^>]*>", text))


def test_nothing_of_another_tenant_is_in_anything_that_is_sent(stage: Stage) -> None:
    """Pages, streams, the review and refusals to a tenant's key hold no name of another; what is asked for by name is
    refused as if it were not there. A key of all tenants sees both.
    """
    reader = stage.reader("operator")
    week = f"/week/review?week={_first_week(reader)}"
    for path in (*PAGES, week):
        text = reader.get(path).text
        assert MARK not in text, path
    for path in STREAMS:
        assert MARK.encode() not in reader.changes(path, 1.5), path
    for path in (
        f"/run?tenant={MARK}&run={MARK}-run",
        f"/incident?tenant={MARK}&incident=inc-{MARK}-run",
        f"/live/run?tenant={MARK}&run={MARK}-run",
        f"/order/kill?tenant={MARK}&run={MARK}-run",
        f"/incident?tenant=acme&incident=inc-{MARK}-run",
    ):
        page = reader.get(path)
        assert page.status == 404, path
        assert MARK not in page.text, path
    assert reader.order("/order/kill", tenant=MARK, run=f"{MARK}-run", why="mine").status == 404
    everybody = stage.reader("all")
    assert {MARK in everybody.get(path).text for path in ("/", f"/run?tenant={MARK}&run={MARK}-run", week)} == {True}


def test_hostile_names_are_text(stage: Stage) -> None:
    """Markup, characters that turn the line, and 64 KiB of a name are shown harmless and short, in pages and rows."""
    reader = stage.reader("reader")
    paths = ["/", *(f"/run?tenant=acme&run=hostile-{at}" for at in range(len(HOSTILE)))]
    paths += [f"/incident?tenant=acme&incident=inc-hostile-{at}" for at in range(len(HOSTILE))]
    for path in paths:
        page = reader.get(path)
        assert page.status == 200, path
        for wrong in ("<script>alert", "<img src=x", "\u202e", "\u200b", "x" * 1_000):
            assert wrong not in page.text, (path, wrong)
    rows = reader.changes("/live/now", 1.5)
    assert b"x" * 1_000 not in rows
    assert "\u202e".encode() not in rows
    assert b"hostile-3" in rows


def test_orders_are_signed_audited_and_for_those_who_may(stage: Stage) -> None:
    """A key that may only read gives none; a form of no session, or of another site, gives none; what is given stands
    on operator.v1 under an operator's signature, with who, why and which key, and in the console's log.
    """
    reader, operator = stage.reader("reader"), stage.reader("operator")
    assert reader.order("/order/kill", tenant="acme", run="acme-run", why="x").status == 403
    assert "Kill this run" not in reader.get("/run?tenant=acme&run=hostile-0").text
    assert "Kill this run" in operator.get("/run?tenant=acme&run=hostile-0").text
    given = {"tenant": "acme", "run": "hostile-0", "why": "runs away"}
    assert operator.post("/order/kill", given).status == 403
    assert operator.post("/order/kill", {**given, "form": reader.get("/").form}).status == 403
    form = {**given, "form": operator.get("/policy").form}
    assert operator.post("/order/kill", form, Origin="https://elsewhere.example").status == 403
    assert operator.post("/order/kill", form, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert operator.order("/order/kill", tenant="acme", run="hostile-0", why=" ").status == 422
    assert operator.order("/order/kill", tenant="acme", run="nobody", why="x").status == 422
    assert not read_all(stage.topics.bootstrap, stage.topics.name("operator.v1"))
    assert "must stop" in operator.order("/order/kill", tenant="acme", run="hostile-0", why="runs away", span="2h").text
    assert operator.order("/order/resume", tenant="acme", run="acme-run", why="wanted", limit_usd="12").status == 200
    assert operator.order("/order/ack", tenant="acme", incident="inc-acme-run", why="on it").status == 200
    assert operator.order("/order/snooze", tenant="acme", incident="inc-acme-run", why="lunch").status == 200
    records = read_all(stage.topics.bootstrap, stage.topics.name("operator.v1"))
    orders = [decode_operator(record.value) for record in records]
    assert [type(one) for one in orders] == [Kill, Resume, Acknowledge, Silence]
    key_id = stage.keys["operator"].split("_")[1]
    assert {one.who for one in orders} == {f"on-call (key {key_id})"}
    public = OperatorKey(OPERATOR_KEY.encode()).public_key
    assert all(operator_signed("acme", record.value or b"", list(record.headers), (public,)) for record in records)
    said = stage.console.said("ordered on the page")
    assert [(one["key_id"], one["type"]) for one in said] == [
        (key_id, name) for name in ("Kill", "Resume", "Acknowledge", "Silence")
    ]
    text = stage.wait_shown(operator, "/incident?tenant=acme&incident=inc-acme-run", "on it")
    assert "until the incident ends" in text


def test_a_revoked_key_is_out_within_seconds(stage: Stage) -> None:
    """Its session, its pages and its open streams end."""
    reader = stage.reader("revoked")
    assert reader.get("/").status == 200
    assert run_revoke(operator_of(stage.topics), stage.keys["revoked"]) == 0
    wait_until(lambda: reader.get("/").status == 303, 10, "the session is over")
    assert reader.get("/live/now").status == 401


def test_reads_are_audited(stage: Stage) -> None:
    """Who has looked at what stands in the log, by the key's id and never the key."""
    stage.reader("reader").get("/run?tenant=acme&run=acme-run")
    seen = stage.console.said("seen on the page")
    assert ("run", "acme", stage.keys["reader"].split("_")[1]) in {
        (one["view"], one["tenant_id"], one["key_id"]) for one in seen
    }


def test_a_run_is_explained_with_its_calls(stage: Stage) -> None:
    """Why it was stopped, each call with its cost, and those that were made before, marked."""
    reader = stage.reader("reader")
    text = stage.wait_shown(reader, "/run?tenant=acme&run=acme-run", "5× the same")
    assert "This run is killed" in text
    assert "The run has cost $5.03 of its $5.00 cap" in text
    assert text.count(">search_docs<") == 5
    assert "limit $5.00" in text


def test_a_policy_is_tried_beside_the_one_in_force(stage: Stage) -> None:
    """Faults of a policy are said with the form; a sound one is tried over the tenant's own days, and compared."""
    reader = stage.reader("reader")
    wrong = reader.order("/policy/trial", policy="[[cap]]\nlimit_usd = -1\n", days="1")
    assert (wrong.status, "limit_usd" in wrong.text) == (422, True)
    proposed = 'version = "tighter"\n[[cap]]\nname = "run-cost"\nlimit_usd = 1.0\nat_limit = "kill"\nmode = "enforce"\n'
    started = reader.order("/policy/trial", policy=proposed, days="1")
    assert started.status == 303
    where = started.headers["location"]
    text = stage.wait_shown(reader, where, "Both policies on the same days")
    assert "Proposed (tighter)" in text
    assert stage.reader("operator").get(where).status == 404, "a trial is seen by who asked for it"


def test_nobody_sees_anything_without_a_key_that_may_read(stage: Stage) -> None:
    """Pages lead to the login, streams end with 401; a wrong key, and one for other work, are told so, and get no
    cookie; after ten wrong ones within a minute the address is not heard.
    """
    stranger = stage.reader(None)
    for path in PAGES:
        page = stranger.get(path)
        assert (page.status, page.headers["location"][:6]) == (303, "/login"), path
    assert {stranger.get(path).status for path in STREAMS} == {401}
    assert stranger.post("/order/kill", {"tenant": "acme", "run": "acme-run", "why": "x"}).status == 303
    assert stranger.post("/login", {"key": stage.keys["reader"][:-1] + "x"}).status == 401
    assert stranger.post("/login", {"key": stage.keys["guard"]}).status == 403
    assert stranger.post("/login", {"key": "x" * 5_000}).status == 413
    assert stranger.cookie is None
    stranger.cookie = "0" * 12 + "." + "1" * 13 + "." + "a" * 32 + "." + "b" * 43
    assert stranger.get("/").status == 303
    answers = [stranger.post("/login", {"key": "sf_wrong"}).status for _ in range(12)]
    assert answers[-1] == 429
    assert stranger.post("/login", {"key": stage.keys["reader"]}).status == 429
    stage.console.wait_said("too many wrong keys")
