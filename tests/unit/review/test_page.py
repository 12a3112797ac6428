"""The page: complete, honest where there is nothing, and harmless whatever its names are."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from alerting.review.facts import Review, Terms
from alerting.review.page.markup import Column, element, join, table
from alerting.review.page.page import page
from alerting.review.page.plots import heat_edges
from tests.support.hostile_review import hostile_review
from tests.support.messages import HOUR_MS, USD
from tests.support.notices import HOSTILE
from tests.support.reviews import WEEK, hour, kill, reviewed

SCRIPTS = {
    "script": "<script>alert(1)</script>",
    "closes the title": "</title></style><script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)" x="',
    "image": "<img src=//evil.example/x onerror=alert(1)>",
    "address": "https://evil.example/?a=1&b=2",
    "entity": "&lt;script&gt;&#60;script&#62;",
    "comment": "<!-- --><![CDATA[ ]]>",
    "style": "</style><style>*{display:none}@import 'https://evil.example';</style>",
    "mathematics": "$\\frac{1}{0}$ $x^2$",
}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "h1", "h2", "p", "dl", "dt", "dd",
    "div", "ol", "li", "ul", "strong", "figure", "figcaption", "svg", "text", "path", "i", "b", "span", "details",
    "summary", "table", "caption", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
VOID = {"meta", "br"}
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "style", "role", "scope", "data-label", "aria-label",
    "aria-hidden", "viewbox", "d", "x", "y",
}  # fmt: skip
STYLE_OF_AN_ELEMENT = re.compile(r"(?:width|left):[\d.]+%?|[a-z-]+: ?[^()]*(?:var\(--[a-z0-9-]+\)[^()]*)*")


class Page(HTMLParser):
    """A page taken apart; what must not be in it is noted, and so is an element that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"never closed: {self.open}")

    @property
    def text(self) -> str:
        """All that is read."""
        return " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            self._attribute(tag, name, value or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"<{tag}/>")
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> out of order")

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            if re.search(r"url\(|@import|expression|//", data):
                self.faults.append("the style fetches something")
            return
        data = data.replace("\xa0", " ")
        if data.strip():
            self.texts.append(data.strip())
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data
            if self.open[-1] == "h2":
                self.titles.append(data)

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data!r}")

    def unknown_decl(self, data: str) -> None:
        self.faults.append(f"declaration {data!r}")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if name not in ATTRIBUTES:
            self.faults.append(f"{tag} {name}={value!r}")
        if name == "style" and not all(STYLE_OF_AN_ELEMENT.fullmatch(one.strip()) for one in value.split(";")):
            self.faults.append(f"style {value!r}")
        # A label is shown, never followed: it may be named after a workflow.
        if name != "data-label" and re.search(r"//|javascript:|data:", value):
            self.faults.append(f"{name} holds an address: {value!r}")


@pytest.mark.parametrize("name", [*HOSTILE.values(), *SCRIPTS.values()], ids=[*HOSTILE, *SCRIPTS])
def test_hostile_names_are_text(name: str) -> None:
    """No element, attribute, style or address comes out of a name; nothing invisible does, and nothing endless."""
    text = page(hostile_review(name))
    parsed = Page(text)
    assert parsed.faults == []
    assert not re.search(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert max(map(len, parsed.texts)) < 1_000
    assert "x" * 200 not in text
    text.encode()


def test_a_check_that_could_fail() -> None:
    """The parser sees what it is there to see."""
    for planted in (
        "<script>x</script>", '<p onclick="x">', '<img src="x">', "<p><b></p></b>", '<p style="background:url(x)">',
        '<a href="https://x">', "<!-- x -->", "<style>@import 'x'</style>", '<i class="//x">',
    ):  # fmt: skip
        assert Page(planted).faults


def test_hostile_names_are_there_and_told_apart() -> None:
    """They are shown, escaped: a reader finds the tenant, whatever it is called."""
    parsed = Page(page(hostile_review("<script>alert(1)</script>")))
    assert "<script>alert(1)</script>" in parsed.text
    assert "&lt;" not in parsed.text


def test_an_empty_week_says_so() -> None:
    """Not a page of zeroes and dashes: sentences."""
    parsed = Page(page(reviewed()))
    assert parsed.faults == []
    for sentence in (
        "Nothing stands out.", "Nothing was spent in this week.", "No run was killed.", "There were no incidents.",
        "Nobody silenced anything.", "No raised budget ends within 7 days.", "Every call had a price.",
        "No change is given, because nothing is on record.",
    ):  # fmt: skip
        assert sentence in parsed.text
    assert "Where the money went" not in parsed.titles


def test_a_quiet_week_says_so() -> None:
    """There was spend, and nothing was wrong with it."""
    parsed = Page(page(reviewed(hour(-7, 1), hour(0, 1, calls=3, runs_started=1))))
    for sentence in (
        "No day cost more than 3 x the median day of the week before.",
        "No run said what became of its output, so that nobody knows what the spend bought.",
        "No workflow of 50 or more model calls retried 10 % of them or more.",
    ):
        assert sentence in parsed.text
    assert "no outcome was reported" in parsed.text


def test_a_week_that_is_not_over_says_so() -> None:
    """Until when it is counted, and that the change is of the same stretch."""
    parsed = Page(page(reviewed(hour(-7, 1), hour(0, 2), now_ms=WEEK.start_ms + 30 * HOUR_MS)))
    assert "This week is not over: it is counted until Tue 24 Nov, 06:00." in parsed.text
    assert "+100 % on its same stretch ($1.00)" in parsed.text
    assert ["Tue 24 Nov", "$0.00", "$0.00", "$0.00"] in parsed.rows
    assert ["Wed 25 Nov", "–", "–", "$0.00"] in parsed.rows


def test_a_backtest_says_so() -> None:
    """And since when there is anything to count."""
    text = Page(page(reviewed(hour(-5, 1), commands=[kill("k")], terms=Terms(rehearsed=True)))).text
    assert "No change is given, because counting began on Wed 18 Nov. From a backtest: no agent could obey" in text


def test_every_plot_has_its_figures_as_a_table() -> None:
    """Hidden from a screen reader, which is given the table instead: the same amounts, to the cent."""
    review = reviewed(hour(-7, 5), hour(0, 12.5, workflow="chat"), hour(0, 2), hour(3, 4, at=14))
    text = page(review)
    rows = Page(text).rows
    assert ["Day", "chat", "docs", "Together", "Week before"] in rows
    assert ["Mon 23 Nov", "$12.50", "$2.00", "$14.50", "$5.00"] in rows
    assert ["Thu 26 Nov", "$0.00", "$4.00", "$4.00", "$0.00"] in rows
    assert ["14:00", "$0.00", "$0.00", "$0.00", "$4.00", "$0.00", "$0.00", "$0.00"] in rows
    assert text.count("<svg") == text.count('<svg aria-hidden="true"') == 4
    assert text.count("<figure aria-label=") == 2
    assert "<g" not in text
    assert "#0" not in re.sub(r"&#\d+;", "", text[text.index("<body") :]), "a colour that is not the page's"


def test_the_lines_of_a_ranking_add_up() -> None:
    """Top five, others and all; the others of a week before are not forgotten."""
    rollups = [hour(0, number, f"t{number}") for number in range(1, 8)]
    rows = Page(page(reviewed(hour(-7, 14, "gone"), *rollups))).rows
    assert ["t7", "", "$7.00", "new"] in rows
    assert ["2 others", "", "$3.00", "−79 %"] in rows
    assert ["All", "", "$28.00", "+100 %"] in rows


def test_what_no_table_has_room_for_is_counted() -> None:
    """Twenty kills are listed, and how many more there were."""
    review = reviewed(commands=[kill(f"k{number:02}", run_id=f"run-{number:02}") for number in range(23)])
    parsed = Page(page(review))
    assert "run-19" in parsed.text
    assert "run-20" not in parsed.text
    assert "3 more in the data (--json)." in parsed.text


def test_the_page_forbids_what_it_does_not_need() -> None:
    """Should a name ever get through, a browser still runs and fetches nothing."""
    text = page(reviewed())
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline';" in text
    )
    assert text.startswith("<!DOCTYPE html>")


def test_the_same_review_is_the_same_page() -> None:
    """No clock, no chance: a page can be compared with another's."""
    rollups = [hour(day, 1.5 * day, workflow=f"w{day}") for day in range(7)]
    assert page(reviewed(*rollups)) == page(reviewed(*rollups))


def test_the_smallest_and_the_largest_amounts() -> None:
    """One nano-dollar, and all that a rollup can hold in every hour."""
    for nanousd in (1, 2**63 - 1):
        rollups = [hour(day, nanousd / USD, at=at) for day in range(7) for at in range(24)]
        assert Page(page(reviewed(*rollups))).faults == []


@pytest.mark.parametrize(
    ("most", "last"),
    [(0, None), (1, 10), (13 * USD, 16 * USD), (16 * USD, 16 * USD), (101, 120), (99, 100), (100, 100)],
)
def test_the_steps_of_the_hours_are_round_and_hold_the_highest(most: int, last: int | None) -> None:
    """Each is twice the one before."""
    edges = heat_edges(reviewed(hour(0, most / USD)))
    assert edges[-1:] == ([] if last is None else [last])
    if most > 100:
        assert [high // low for low, high in pairwise(edges)] == [2, 2, 2, 2]


def test_elements_escape_what_is_no_markup() -> None:
    """Text and attributes are escaped, markup made here is not escaped twice, and tables name their cells."""
    assert element("p", "<b>", element("i", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert join(["<", element("i")]) == "&lt;<i></i>"
    made = table("<c>", [Column("<n>", "name"), Column("<v>")], [["<a>", "<1>"]])
    assert "<c>" not in made
    assert 'data-label="&lt;v&gt;"' in made


def test_sections_are_in_order() -> None:
    """First what to look at, then the evidence, then how it was made."""
    review: Review = hostile_review("acme")
    assert Page(page(review)).titles == [
        "What to look at", "Where the money went", "Out of the ordinary", "What it bought", "What was stopped",
        "Was it worth telling?", "Silences and exceptions", "Calls without a price", "How these figures are made",
    ]  # fmt: skip
