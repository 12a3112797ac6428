"""The page's two plots, drawn with matplotlib: SVG without a name, an address or a colour of its own.

Names stand in the page's legend, where they are escaped like all others. Colours are the page's CSS variables, so that
the plots follow it into the dark and onto paper. Each is drawn twice, for a wide screen and for a narrow one.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alerting.review.facts import Review
from schemas.money import NANOUSD_PER_USD, format_usd

SERIES = 6
"""Colours for workflows; the last is for all others together."""
HEAT = 5
"""Steps of the hours' colours beside the one for nothing."""

# Colours that nothing else has stand for the page's variables.
_INK, _MUTED, _LINE, _PAPER = "#010000", "#010001", "#010002", "#010003"
_SERIES = [f"#0200{number:02x}" for number in range(SERIES)]
_HEAT = [f"#0300{number:02x}" for number in range(HEAT + 1)]
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _LINE: "--line",
    _PAPER: "--paper",
    **{colour: f"--series-{number}" for number, colour in enumerate(_SERIES)},
    **{colour: f"--heat-{number}" for number, colour in enumerate(_HEAT)},
}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spendfuse",
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
}
_NICE = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 100)
"""Tenths of amounts that stay round when halved."""
_GAP = 0.06
_SUPERFLUOUS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<defs>.*?</defs>",  # a style for the whole page, and clips that cut nothing off
        r"<!--.*?-->",
        r"</?g\b[^>]*>",
        r'\s(?:xmlns(?::xlink)?|id|version|clip-path)="[^"]*"',
        r'(?<=<svg)\swidth="[^"]*"\sheight="[^"]*"',
        r'\stransform="rotate\(-0 [^"]*"',
        r"font-family: [^;]*;\s?",
    )
]
"""What the page has already, or would be misled by."""


def days_plot(review: Review, day_names: Sequence[str], *, narrow: bool) -> str:
    """Spend per day, stacked by workflow, with a mark where the same day of the week before stood."""
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure((4.2, 2.9) if narrow else (10.0, 2.9))
        places = range(len(day_names))
        floor = [0.0] * len(day_names)
        for number, series in enumerate(review.days):
            colour = _SERIES[number if series.workflow is not None else SERIES - 1]
            for place, nanousd in enumerate(series.days_nanousd):
                if height := _dollars(nanousd):
                    axes.bar(place, height, 0.62, bottom=floor[place], color=colour, edgecolor=_PAPER, linewidth=0.6)
                    floor[place] += height
        if review.before_days_nanousd is not None:
            before = [_dollars(nanousd) for nanousd in review.before_days_nanousd]
            axes.hlines(before, [x - 0.42 for x in places], [x + 0.42 for x in places], _INK, linewidth=1.6)
        for place, height in enumerate(floor):
            if height:
                _label(axes, place, height, narrow=narrow)
        axes.set_xticks(list(places), day_names)
        axes.set_xlim(-0.6, len(day_names) - 0.4)
        axes.set_ylim(0, 1.12 * max(*floor, *map(_dollars, review.before_days_nanousd or [0]), 1e-9))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        axes.grid(axis="y", color=_LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        return _svg(figure)


def _label(axes: Axes, place: int, height: float, *, narrow: bool) -> None:
    text = _tick(height) if narrow else format_usd(round(height * NANOUSD_PER_USD))
    axes.annotate(
        text, (place, height), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=9, color=_INK,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": _PAPER, "edgecolor": "none"},
    )  # fmt: skip


def hours_plot(review: Review, day_names: Sequence[str], *, narrow: bool) -> str:
    """Spend by hour as colour: days down and hours across, the other way round where it is narrow."""
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure((4.2, 4.6) if narrow else (10.0, 2.3))
        edges = heat_edges(review)
        boxes: dict[int, list[Path]] = {}
        for day, hours in enumerate(review.hours_nanousd):
            for hour, nanousd in enumerate(hours):
                if nanousd is not None:
                    x, y = (day, hour) if narrow else (hour, day)
                    boxes.setdefault(_step(nanousd, edges), []).append(_box(x, y))
        for step, paths in boxes.items():
            shape = Path.make_compound_path(*paths)
            axes.add_patch(PathPatch(shape, facecolor=_HEAT[step], edgecolor="none", clip_on=False))
        hour_names = [f"{hour:02}" for hour in range(0, 24, 3)]
        hour_places = [hour + 0.5 for hour in range(0, 24, 3)]
        day_places = [day + 0.5 for day in range(len(day_names))]
        if narrow:
            axes.set_xticks(day_places, day_names)
            axes.set_yticks(hour_places, hour_names)
            axes.xaxis.tick_top()
        else:
            axes.set_xticks(hour_places, hour_names)
            axes.set_yticks(day_places, day_names)
        axes.set_xlim(0, len(day_names) if narrow else 24)
        axes.set_ylim(24 if narrow else len(day_names), 0)
        axes.tick_params(top=False)
        axes.spines["bottom"].set_visible(False)
        return _svg(figure)


def heat_edges(review: Review) -> list[int]:
    """Upper edges of the steps in nano-dollars, each twice the one before; the last holds the most expensive hour.

    Nights cost a fraction of office hours: in even steps they would all look alike.
    """
    most = max((nanousd or 0 for day in review.hours_nanousd for nanousd in day), default=0)
    if not most:
        return []
    magnitude = 10 ** max(0, len(str(most)) - 2)
    highest = next(nice * magnitude for nice in _NICE if nice * magnitude >= most)
    return [max(1, highest >> halvings) for halvings in reversed(range(HEAT))]


def _step(nanousd: int, edges: Sequence[int]) -> int:
    if not nanousd:
        return 0
    return next((number for number, edge in enumerate(edges, 1) if nanousd <= edge), HEAT)


def _box(x: float, y: float) -> Path:
    low_x, low_y, high_x, high_y = x + _GAP, y + _GAP, x + 1 - _GAP, y + 1 - _GAP
    return Path([(low_x, low_y), (high_x, low_y), (high_x, high_y), (low_x, high_y), (low_x, low_y)], closed=True)


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(bottom=False, left=False)
    return figure, axes


def _dollars(nanousd: int) -> float:
    return nanousd / NANOUSD_PER_USD


def _tick(dollars: float) -> str:
    """A round amount without its cents.

    >>> [_tick(20.0), _tick(2.5), _tick(0.004), _tick(12_000.0)]
    ['$20', '$2.50', '$0.0040', '$12,000']
    """
    return format_usd(round(dollars * NANOUSD_PER_USD)) if 0 < dollars < 10 and dollars % 1 else f"${dollars:,.0f}"


def _svg(figure: Figure) -> str:
    """The figure as an element of a page: no prologue, no names of its own, no colours but the page's."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in _SUPERFLUOUS:
        text = pattern.sub("", text)
    text = re.sub(r'\s[dxy]="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), text)
    text = re.sub(r"#0[123]00[0-9a-f]{2}\b", lambda found: f"var({_VARIABLES[found[0]]})", text)
    return re.sub(r"\s*\n\s*", "\n", text).replace("<svg", '<svg aria-hidden="true"', 1).strip()
