"""A real browser for the live page, where this machine has one."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache" / "browser"
AXE = HOME / "npm" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The browser's program; None where there is none."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


def chromium() -> str:
    """The browser's program; skips the test where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip(f"no {' or '.join(CHROMIUM)} is on this machine")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The browser, started once."""
    program = chromium()
    if not (HOME / "lock").is_file():
        pytest.skip("playwright is not here; `make browser-tests` sets it up")
    sys.path.append(str(HOME / "python"))
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it is there only now

    with sync_playwright() as playwright:
        # Without the sandbox, which a container's root cannot have: nothing foreign is opened.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    """A browser nobody has used, on a desk."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC", locale="en-GB")
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's script."""
    if not AXE.is_file():
        pytest.skip("axe-core is not here; `make browser-tests` sets it up where there is npm")
    return AXE.read_text(encoding="utf-8")
