"""The frame of every page: head, navigation, whether it is live, and who is logged in."""

from alerting.review.page.markup import Markup, Piece, element
from schemas.internal.spend import ALL_TENANTS
from streams.console.sessions import Session
from streams.console.views.pieces import shown_name

VIEWS = (("/", "Now"), ("/policy", "Policy"), ("/week", "Week"))


def document(
    title: str,
    main: Piece,
    session: Session | None,
    *,
    here: str = "",
    live: str = "",
    form: str = "",
    onward: str = "",
) -> str:
    """A whole page. `live` is where its changes come from, `form` the token of this session's forms, and `onward` where
    it goes by itself at once.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="robots", content="noindex"),
        element("meta", http_equiv="refresh", content=f"0;url={onward}") if onward else "",
        element("title", f"{title} · Spendfuse"),
        element("link", rel="icon", href="/static/icon.svg"),
        element("link", rel="stylesheet", href="/static/console.css"),
        element("script", src="/static/console.js", type="module"),
    )
    body = element(
        "body",
        element("a", "Skip to the page", href="#main", class_="skip"),
        _top(session, here, form),
        element("p", class_="stale", id="stale", role="status"),
        element("main", main, id="main", tabindex="-1", data_live=live or None),
        element("footer", element("p", "Times are in UTC.", id="zone"), class_="foot") if session else "",
        element("div", class_="unseen", id="said", aria_live="polite"),
        data_here=here or None,
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _top(session: Session | None, here: str, form: str) -> Markup:
    brand = element("a", element("span", aria_hidden="true", class_="fuse"), "Spendfuse", href="/", class_="brand")
    if session is None:
        return element("header", brand, class_="top")
    links = [
        element("a", label, href=href, aria_current="page" if href == here else None) for href, label in VIEWS
    ]  # fmt: skip
    whose = "all tenants" if session.tenant_id == ALL_TENANTS else shown_name(session.tenant_id, 30)
    out = element(
        "form", hidden_token(form), element("button", "Log out", type="submit", class_="plain"), method="post",
        action="/logout",
    )  # fmt: skip
    return element(
        "header",
        brand,
        element("nav", *links, aria_label="Views"),
        element("span", element("span", class_="dot", aria_hidden="true"), element("span", "live", id="live"),
                class_="liveness", id="liveness"),
        element("span", whose, class_="whose"),
        out,
        class_="top",
    )  # fmt: skip


def hidden_token(form: str) -> Markup:
    """What proves that a form is of this session."""
    return element("input", type="hidden", name="form", value=form)


def login_page(fault: str = "", after: str = "") -> str:
    """The page that asks for a key."""
    said = element("p", fault, role="alert", class_="fault") if fault else ""
    main = element(
        "div",
        element("h1", "Log in"),
        element("p", "What agents spend now, what is about to hit a limit, and what was stopped and why."),
        said,
        element(
            "form",
            element("label", "Key", for_="key"),
            element("input", type="password", name="key", id="key", autocomplete="current-password", required="",
                    spellcheck="false", autofocus=""),
            element("input", type="hidden", name="after", value=after),
            element("button", "Log in", type="submit"),
            method="post", action="/login",
        ),
        element("p", "A key that may read is made with ",
                element("code", "python -m streams keys create --tenant NAME --may read"),
                "; with operate as well, orders can be given here.", class_="note"),
        class_="login",
    )  # fmt: skip
    return document("Log in", main, None)


def arriving_page(path: str) -> str:
    """What goes on to a page of ours from here: only then does a browser send the cookie that no other site may use."""
    main = element("p", element("a", "Go on to the page", href=path))
    return document("Opening", main, None, onward=path)


def problem_page(title: str, text: str, session: Session | None, form: str = "") -> str:
    """A page that says what is wrong, and what to do."""
    main = element("div", element("h1", title), element("p", text), element("p", element("a", "Now", href="/")))
    return document(title, main, session, form=form)
