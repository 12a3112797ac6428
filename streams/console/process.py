"""`python -m streams console` from start to end."""

import asyncio
import logging
import math
import secrets
from contextlib import ExitStack
from functools import partial
from typing import Final, NamedTuple

from aiohttp import web

from models.prices.book import PriceBook
from models.rules.policy import Policy
from schemas.errors import SettingsError
from streams.clock import wall_ms
from streams.console.assets import asset_routes
from streams.console.following import NEEDED, Following
from streams.console.live import Streams
from streams.console.metrics import ConsoleMetrics
from streams.console.pages.ordering import Ordering
from streams.console.pages.policies import Policies
from streams.console.pages.visits import HEADERS, Visits
from streams.console.pages.watching import Watching
from streams.console.pages.weeks import Weeks
from streams.console.run_follower import RunFollowers
from streams.console.sessions import Sessions
from streams.console.state.book import Book
from streams.console.trial.trials import Trials
from streams.edge.key_ring import KeyRing
from streams.kafka.admin import existing_topics
from streams.kafka.order_reader import OrderReader
from streams.kafka.order_writer import OrderWriter
from streams.process.broker_watch import BrokerWatch
from streams.process.http import HttpServer, Serving, server_tls
from streams.process.logs import fields
from streams.process.service import claimed_settings, watched
from streams.settings import PREFIX, Settings
from streams.tools.order import check_key

log = logging.getLogger("spendfuse.console")

MOST_BYTES: Final = 512 * 1024
"""A form with a policy in it."""
MOST_CONNECTIONS: Final = 1_000
END_S: Final = 3.0


def run_console() -> int:
    """Serve until told to end; returns the exit code. Raises `SpendfuseError` with what to do."""
    with claimed_settings("console") as settings:
        existing_topics(settings, NEEDED)
        metrics = ConsoleMetrics()
        broker = BrokerWatch(settings)
        book = Book(settings.file_policy())
        serving, keys, following = Serving(), KeyRing(settings), Following(settings, book)

        def faults() -> list[str]:
            return [*following.faults, *filter(None, [keys.fault])]

        def fault() -> str | None:
            return serving.fault() or "; ".join(faults()) or None

        with ExitStack() as stack:
            stack.enter_context(watched(settings, metrics, broker, lambda: serving.beat_ms, fault))
            stack.enter_context(keys)
            stack.enter_context(following)
            followers = RunFollowers(settings, lambda: PriceBook(_policy(book).header))
            stack.callback(followers.end)
            streams = Streams(partial(_stale, broker))
            metrics.streams.set_function(lambda: len(streams))
            metrics.runs_followed.set_function(lambda: len(followers))
            metrics.unfollowed_topics.set_function(lambda: len(faults()))
            metrics.unreadable.set_function(lambda: following.unreadable)
            asyncio.run(_serve(settings, _Parts(settings, book, keys, followers, streams), serving))
    return 0


class _Parts(NamedTuple):
    """What the pages share."""

    settings: Settings
    book: Book
    keys: KeyRing
    followers: RunFollowers
    streams: Streams


def _routes(parts: _Parts, trials: Trials) -> list[web.AbstractRouteDef]:
    settings, book, keys, followers, streams = parts
    secret = settings.console_secret
    sessions = Sessions(keys, secret.get_secret_value().encode() if secret else secrets.token_bytes(32))
    visits = Visits(sessions, is_tls=settings.console_tls_certificate is not None)
    publish = OrderWriter(settings).publish if settings.operator_key is not None else None
    orders = OrderReader.of(settings)
    return [
        *visits.routes(),
        *Watching(book, orders, followers, streams, visits, takes_orders=publish is not None).routes(),
        *Ordering(book, visits, publish, partial(_refusal, settings, book)).routes(),
        *Policies(book, trials, streams, visits).routes(),
        *Weeks(settings, book, visits).routes(),
        *asset_routes(),
        web.get("/healthz", _health),
    ]


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _refusal(settings: Settings, book: Book) -> str:
    """Why the workers would not obey the key here; empty if they would, or nobody knows."""
    try:
        check_key(settings, book.operator_keys)
    except SettingsError as error:
        return str(error)
    return ""


def _policy(book: Book) -> Policy:
    with book.lock:
        return book.policy


def _stale(broker: BrokerWatch) -> int:
    """Since when nothing comes from the brokers, in epoch milliseconds; 0 while it does."""
    return wall_ms() - int(broker.away_s * 1000) if broker.away_s else 0


async def _serve(settings: Settings, parts: _Parts, serving: Serving) -> None:
    trials = Trials()
    host, port = settings.console_host, settings.console_port
    tls = server_tls(settings.console_tls_certificate, settings.console_tls_key, "CONSOLE_TLS")
    headers = HEADERS if tls is None else {**HEADERS, "Strict-Transport-Security": "max-age=31536000"}
    server = HttpServer(
        _routes(parts, trials), host, port, f"{PREFIX}CONSOLE_PORT",
        most_bytes=MOST_BYTES, most_connections=MOST_CONNECTIONS, longest_s=math.inf,
        tls=tls, end_s=END_S, headers=headers,
    )  # fmt: skip
    async with serving.until_told(server) as end:
        log.info("showing the page", extra=fields(host=host, port=port, tls=tls is not None))
        await end.wait()
        parts.streams.end()
        await trials.end()
