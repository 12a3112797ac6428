"""The pictures are honest: they draw what Slack is sent, all of it, and nothing that a message only pretends to be."""

import re
import shutil

import pytest

from alerting.notice import Notice
from alerting.receivers.slack.blocks import SlackMessage, slack_message, thread_reply
from tests.screens.__main__ import main
from tests.screens.block_kit import Posted, page
from tests.support.notices import HOSTILE, alert, notice

LINKS = {"Run": "https://runs.example/{tenant_id}/{run_id}"}


def test_all_of_a_message_is_drawn() -> None:
    """Heading, bar, facts, evidence, buttons, reference and the replies stand in the page, in both themes."""
    told = notice(command="kill", maybe_repeated=True)
    posted = Posted(slack_message(told, LINKS), "03:12", edited=True, replies=[("03:13", thread_reply(told))])
    for theme in ("light", "dark"):
        drawn = page([posted], theme)
        for needed in (
            "🔴 acme / search-agent", "82%, $41.00 of $50.00", "<b>A kill was sent", "Owner: alice", "• $30.00",
            "Acknowledge", "Resume run", "incident 4f2d9c01aa", "may be a repetition", "1 reply", "03:13", "(edited)",
        ):  # fmt: skip
            assert needed in drawn


def test_a_page_asks_nothing_of_anywhere() -> None:
    """No address is loaded, so that a picture is the same on every machine and tells nobody of it."""
    drawn = page([Posted(slack_message(notice(), LINKS), "03:12")], "light")
    assert not re.search(r"(src|href)=|url\(|@import", drawn)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_picture_shows_what_slack_shows(hostile: str) -> None:
    """Foreign text is text in the page as well: no element of its own, and decoded once, not twice."""
    told = Notice("incident", (alert(owner=hostile, summary=hostile, run_id=hostile, evidence={"note": hostile}),))
    drawn = page([Posted(slack_message(told, {}), "03:12")], "light")
    assert set(re.findall(r"<([a-z0-9!]+)", drawn)) <= {
        "!doctype", "html", "meta", "title", "style", "main", "article", "div", "span", "time", "b", "h3", "p", "br",
        "script",
    }  # fmt: skip
    assert drawn.count("<script") == 1


def test_what_cannot_be_drawn_is_an_error() -> None:
    """A new type of block is not left out of the pictures in silence."""
    with pytest.raises(ValueError, match="draw it in"):
        page([Posted(SlackMessage("", [{"type": "video"}]), "03:12")], "light")


def test_without_a_browser_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the package's name; a scene that does not exist is refused with those that do."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert main([]) == 2
    assert "apt-get install chromium" in capsys.readouterr().err
    assert main(["budgte"]) == 2
    assert "budget" in capsys.readouterr().err
