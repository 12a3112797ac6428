"""HTML in which foreign text cannot become markup: text is escaped where it enters an element, unless it is markup."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Kind = Literal["name", "text", "remark", "number"]
"""What a column holds; remarks are long."""

VOID = frozenset({"br", "input", "link", "meta"})
"""Elements that have no content."""
MOST_SIDE_BY_SIDE = 5
"""Columns that a phone still shows side by side."""


class Markup(str):
    """Text that is HTML already. Only this module and drawn plots make any."""

    __slots__ = ()


Piece = str | Markup


def element(tag: str, *pieces: Piece, **attributes: str | None) -> Markup:
    """An element with its content and attributes; those that are None are left out.

    A trailing underscore is dropped from an attribute's name, and every other one becomes a hyphen.

    >>> element("p", "a < b", element("br"), class_="x", aria_label='"')
    '<p class="x" aria-label="&quot;">a &lt; b<br></p>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(pieces)}</{tag}>")


def join(pieces: Iterable[Piece]) -> Markup:
    """Pieces after one another, the text among them escaped. A line never ends between a number and its sign."""
    return Markup("".join(one if isinstance(one, Markup) else escape(one).replace(" %", "\xa0%") for one in pieces))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Where there are many, a narrow screen shows each cell below its own label."""

    label: str
    kind: Kind = "number"


def table(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Piece]], foot: Sequence[Piece] = ()
) -> Markup:
    """A table whose first column names its rows. `foot` is a last row for sums."""
    head = element(
        "tr", *(_cell("th", one, one.label, role="columnheader", scope="col") for one in columns), role="row"
    )
    body = [_row(columns, row) for row in rows]
    if foot:
        body.append(_row(columns, foot, class_="sum"))
    # The roles are said again because a narrow screen shows the table as blocks, which are no table to some readers.
    return element(
        "table",
        element("caption", caption),
        element("thead", head, role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
        class_="many" if len(columns) > MOST_SIDE_BY_SIDE else None,
    )


def _row(columns: Sequence[Column], cells: Sequence[Piece], class_: str | None = None) -> Markup:
    first, *rest = zip(columns, cells, strict=True)
    name = _cell("th", *first, role="rowheader", scope="row")
    return element(
        "tr",
        name,
        *(_cell("td", column, cell, role="cell", data_label=column.label) for column, cell in rest),
        role="row",
        class_=class_,
    )


def _cell(tag: str, column: Column, content: Piece, **attributes: str) -> Markup:
    # In an element of its own, so that a narrow screen can set it beside its label.
    return element(tag, element("span", content), class_=column.kind, **attributes)
