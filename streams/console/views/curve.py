"""A curve against its cap: SVG made here, coloured by the page's style, with words for those who do not see it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from alerting.review.page.markup import Markup, Piece, element, join

WIDTH: Final = 600
HEIGHT: Final = 130
PAD: Final = 6
MOST_POINTS: Final = 300
FAR: Final = 4
"""A line at more than so many times the largest value is named and not drawn: it would press the curve flat."""


class Curve(NamedTuple):
    """What is drawn."""

    title: str
    values: Sequence[float]
    """One for each call, in order."""
    shown: Sequence[str]
    """The first, the largest and the last, as text: what the words below say."""
    line: float | None = None
    """What the values are held against."""
    line_label: str = ""
    line_kind: str = "cap"
    """Its class: `cap` is a limit, `watch` is from where on somebody looks."""
    marks: Sequence[int] = ()
    """Places of calls that were made before."""
    stops: bool = False
    """A rising total, drawn as steps; else each value stands for itself."""


def curve(given: Curve) -> Markup:
    """The curve with its words."""
    if len(given.values) < 2:
        return join([])
    step = max(1, -(-len(given.values) // MOST_POINTS))
    values = [max(given.values[at : at + step]) for at in range(0, len(given.values), step)]
    most = max(values)
    is_far = given.line is not None and given.line > FAR * most
    top = (most if is_far else max(most, given.line or 0)) or 1
    points = [(_x(at, len(values)), _y(value, top)) for at, value in enumerate(values)]
    path = _steps(points) if given.stops else " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{PAD},{HEIGHT - PAD} {path} {WIDTH - PAD},{HEIGHT - PAD}"
    drawn: list[Piece] = [
        element("polygon", points=area, class_="area"),
        *(_mark(at // step, len(values)) for at in given.marks),
        element("polyline", points=path, class_="line"),
        _dot(*points[-1]),
    ]
    if given.line is not None and not is_far:
        y = f"{_y(given.line, top):.1f}"
        drawn.append(element("line", x1=f"{PAD}", x2=f"{WIDTH - PAD}", y1=y, y2=y, class_=given.line_kind))
    label = f"{given.line_label}, far above" if is_far else given.line_label
    words = f"{given.title}: {', '.join(given.shown)}{f'; {label}' if label else ''}"
    head = [element("strong", given.title), element("span", given.shown[-1], class_="last")]
    if label:
        head.append(element("span", label, class_="far" if is_far else given.line_kind))
    svg = element(
        "svg", element("title", words), *drawn, class_="curve", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        preserveAspectRatio="none",
    )  # fmt: skip
    return element("figure", element("figcaption", *head), svg)


def _steps(points: Sequence[tuple[float, float]]) -> str:
    found = [f"{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (_, before), (x, y) in pairwise(points):
        found += [f"{x:.1f},{before:.1f}", f"{x:.1f},{y:.1f}"]
    return " ".join(found)


def _mark(at: int, count: int) -> Markup:
    x = f"{_x(at, count):.1f}"
    return element("line", x1=x, x2=x, y1=f"{PAD}", y2=f"{HEIGHT - PAD}", class_="again")


def _dot(x: float, y: float) -> Markup:
    """A dot that stays round however the drawing is stretched."""
    return element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=f"{y:.1f}", y2=f"{y:.1f}", class_="end")


def _x(at: int, count: int) -> float:
    return PAD + (WIDTH - 2 * PAD) * at / max(1, count - 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - PAD - (HEIGHT - 2 * PAD) * min(1.0, value / top)
