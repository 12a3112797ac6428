"""What all views are built of: names, amounts, bars, little charts. Foreign text is made harmless, then escaped."""

import hashlib
import re
from collections.abc import Sequence
from urllib.parse import quote

from alerting.rendering.figures import percent, time_of_day
from alerting.rendering.foreign import clean, name
from alerting.review.page.markup import Markup, Piece, element, join
from schemas.money import format_usd

NEAR = 0.8
"""From this share of a limit on, it is near."""
BAR_WIDTH = 100
_BETWEEN_TICKS = re.compile(r"`([^`]+)`")


def shown_name(text: str, most: int = 60) -> Markup:
    """A foreign name, set apart so that its direction turns nothing around it."""
    return element("bdi", name(text, most))


def shown_text(text: str, most: int = 400) -> Markup:
    """A foreign sentence, likewise."""
    return element("bdi", clean(text, most))


def advice(text: str, most: int = 400) -> Markup:
    """A foreign sentence in which names of settings and files stand between backticks."""
    parts = _BETWEEN_TICKS.split(clean(text, most))
    return element("bdi", *(element("code", one) if at % 2 else one for at, one in enumerate(parts)))


def link(href: str, *content: Piece, class_: str | None = None) -> Markup:
    """A link within the page."""
    return element("a", *content, href=href, class_=class_)


def key_of(text: str) -> str:
    """What tells a row from others while it moves, whatever the id is that it stands for."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def quoted(text: str) -> str:
    """A name as a value in an address."""
    return quote(text, safe="")


def run_href(tenant_id: str, run_id: str) -> str:
    """Where a run is shown."""
    return f"/run?tenant={quoted(tenant_id)}&run={quoted(run_id)}"


def incident_href(tenant_id: str, incident_id: str) -> str:
    """Where an incident is shown."""
    return f"/incident?tenant={quoted(tenant_id)}&incident={quoted(incident_id)}"


def usd(nanousd: int) -> str:
    """An amount to the cent, and below a cent as precise as it takes to be no zero."""
    return format_usd(nanousd) if nanousd < 10**7 else f"${nanousd / 10**9:,.2f}"


def tokens(count: int) -> str:
    """A number of tokens: 930, 61.2k, 1.20M."""
    if count < 1_000:
        return f"{count}"
    return f"{count / 1_000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.2f}M"


def moment(ts_ms: int) -> Markup:
    """A moment, as the reader's own clock shows it once the page's script has seen it; in UTC until then."""
    return element("time", time_of_day(ts_ms), data_ms=str(ts_ms))


def since(ts_ms: int) -> Markup:
    """A moment that the page's script shows as how long ago it was, and counts on."""
    return element("time", time_of_day(ts_ms), data_since=str(ts_ms))


def level(share: float) -> str:
    """How near a share is to its limit, as a class."""
    return "over" if share >= 1 else "near" if share >= NEAR else "far"


def bar(share: float) -> Markup:
    """A share of a limit as a bar, for those who see; the figure beside it says the same."""
    width = f"{min(1.0, max(0.0, share)) * BAR_WIDTH:.1f}"
    return element(
        "svg",
        element("rect", width=str(BAR_WIDTH), height="6", class_="track"),
        element("rect", width=width, height="6", class_=level(share)),
        class_="bar", viewBox=f"0 0 {BAR_WIDTH} 6", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip


def share_text(share: float) -> str:
    """A share of a limit in words."""
    return percent(min(share, 99.99))


def columns_chart(values: Sequence[int], label: str) -> Markup:
    """Amounts of equal stretches of time as little columns."""
    most = max(values, default=0) or 1
    rects = [
        element(
            "rect",
            x=f"{at * 4}",
            y=f"{20 - height:.1f}",
            width="3",
            height=f"{height:.1f}",
            class_="now" if at == len(values) - 1 else "then",
        )
        for at, value in enumerate(values)
        if (height := max(0.8, 20 * value / most) if value else 0)
    ]
    return element(
        "svg", element("title", label), *rects, class_="columns", viewBox=f"0 0 {4 * len(values)} 20", role="img"
    )


def badge(text: str, kind: str) -> Markup:
    """A word set apart: a severity, a command."""
    return element("span", text, class_=f"badge {kind}")


def empty(text: str) -> Markup:
    """What stands where there is nothing."""
    return element("p", text, class_="empty")


def definitions(pairs: Sequence[tuple[str, Piece]], class_: str = "facts") -> Markup:
    """Names with what they are."""
    return element("dl", *(element("div", element("dt", key), element("dd", value)) for key, value in pairs),
                   class_=class_)  # fmt: skip


def plain_table(caption: str, heads: Sequence[tuple[str, str]], rows: Sequence[Markup], class_: str) -> Markup:
    """A table with a head: label and class of each column; its caption is for those who do not see it."""
    head = element("tr", *(element("th", label, scope="col", class_=kind or None) for label, kind in heads))
    return element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", head),
        element("tbody", *rows),
        class_=class_,
    )


def lines(*pieces: Piece) -> Markup:
    """Pieces below each other, as blocks; empty ones are left out."""
    return join(element("div", one) for one in pieces if one)


def choice(field: str, value: str, label: str, *, checked: bool) -> Markup:
    """One of several of which one is chosen."""
    box = element("input", type="radio", name=field, value=value, checked="" if checked else None)
    return element("label", box, f" {label}")
