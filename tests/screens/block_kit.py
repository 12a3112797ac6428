"""Slack's message pane as a page: the block types that Spendfuse sends, laid out as Slack's desktop client does.

15 px text on 22 px lines, 18 px headings, 13 px context, blocks at most 600 px wide, fields in two columns; the font is
Slack's own, Lato, where it is installed. A block of another type is an error, so that no picture leaves anything out.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alerting.receivers.slack.blocks import Block, SlackMessage

Theme = Literal["light", "dark"]
WIDTH_PX = 700
STYLE = Path(__file__).with_name("block_kit.css")
_MEASURE = "document.documentElement.dataset.height = Math.ceil(document.querySelector('main').offsetHeight)"
_LINK = re.compile(r"<(https?://[^|>]+)\|([^>]*)>")
_BOLD = re.compile(r"\*([^*\n]+)\*")


@dataclass(frozen=True, slots=True)
class Posted:
    """A message as it stands in a channel, with the replies in its thread."""

    message: SlackMessage
    at: str
    """The time beside the sender's name, as Slack shows it."""
    edited: bool = False
    replies: Sequence[tuple[str, SlackMessage]] = ()


def page(posted: Sequence[Posted], theme: Theme) -> str:
    """A whole page: messages under each other, and their height in `data-height`. It asks nothing of anywhere."""
    body = "\n".join(_posted(one) for one in posted)
    style = STYLE.read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en" class="{theme}"><meta charset="utf-8"><title>messages</title>'
        f"<style>main {{ width: {WIDTH_PX}px }} {style}</style><main>{body}</main><script>{_MEASURE}</script></html>"
    )


def _posted(posted: Posted) -> str:
    thread = ""
    if posted.replies:
        count = f"{len(posted.replies)} {'reply' if len(posted.replies) == 1 else 'replies'}"
        replies = "".join(_message(message, at) for at, message in posted.replies)
        thread = f'<section class="thread"><div class="count">{count}</div>{replies}</section>'
    return _message(posted.message, posted.at, edited=posted.edited) + thread


def _message(message: SlackMessage, at: str, *, edited: bool = False) -> str:
    blocks = "".join(f'<div class="block">{_block(block)}</div>' for block in message.blocks)
    mark = '<span class="edited">(edited)</span>' if edited else ""
    return (
        '<article><div class="avatar"></div><div class="content"><div class="sender"><b>Spendfuse</b>'
        f'<span class="app">APP</span><time>{html.escape(at)}</time></div>{blocks}{mark}</div></article>'
    )


def _block(block: Block) -> str:
    match block["type"]:
        case "header":
            return f"<h3>{_text(block['text'])}</h3>"
        case "section":
            text = f"<p>{_text(block['text'])}</p>" if "text" in block else ""
            fields = "".join(f"<div>{_text(field)}</div>" for field in block.get("fields", ()))
            return text + (f'<div class="fields">{fields}</div>' if fields else "")
        case "context":
            return f'<div class="context">{"".join(f"<span>{_text(one)}</span>" for one in block["elements"])}</div>'
        case "actions":
            return f'<div class="actions">{"".join(_button(one) for one in block["elements"])}</div>'
        case "divider":
            return "<hr>"
        case other:
            raise ValueError(f"no picture of a block of type {other!r} is known; draw it in tests/screens/block_kit.py")


def _button(button: dict[str, Any]) -> str:
    return f'<span class="button {button.get("style", "")}">{_text(button["text"])}</span>'


def _text(text: dict[str, Any]) -> str:
    """A text object: of mrkdwn, links and bold; of plain_text nothing but the three entities that Slack decodes."""
    if text["type"] == "plain_text":
        return _lines(html.escape(_decoded(text["text"])))
    parts = []
    rest = text["text"]
    while found := _LINK.search(rest):
        parts.append(_bold(rest[: found.start()]))
        parts.append(f'<a title="{html.escape(_decoded(found[1]))}">{html.escape(_decoded(found[2]))}</a>')
        rest = rest[found.end() :]
    return _lines("".join([*parts, _bold(rest)]))


def _bold(text: str) -> str:
    return _BOLD.sub(r"<b>\1</b>", html.escape(_decoded(text)))


def _decoded(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")
