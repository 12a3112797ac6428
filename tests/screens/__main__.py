"""Draw the messages into docs/screens, one picture each, with headless Chromium."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.screens.block_kit import WIDTH_PX, Theme, page
from tests.screens.scenes import Scene, scenes

OUTPUT = Path(__file__).parents[2] / "docs" / "screens"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DARK = {"budget", "run-stopped"}
"""Scenes that are drawn for dark screens as well."""
TALLEST_PX = 4_000
COLOURS = 96
"""Enough for text and a few dots; a third of the size."""
QUIETLY = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
INDEX = """# The live page, and messages as people get them

The live page, drawn by `python -m tests.browser.screens` from a real console over made-up tenants; each also in the
dark (`-dark`) and on a phone (`-phone`).

| picture | what it shows |
|---|---|
| [page-now](page-now.png) | spend against limits, open incidents, what was stopped |
| [page-run](page-run.png) | a run that was killed: why, its curves, every call |
| [page-incident](page-incident.png) | an incident: evidence, course, who was notified |
| [page-policy](page-policy.png) | a changed policy tried on the last day |
| [page-week](page-week.png) | the weekly review |

## Messages

Drawn by `python -m tests.screens` from the blocks that Slack is sent. The alerts are what the engine makes of the
demo's log and of `tests/screens/story.toml`.

| picture | what it shows |
|---|---|
"""


def main(arguments: list[str] | None = None) -> int:
    """Draw the scenes that were asked for, all by default; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.screens", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="names of scenes; all without one")
    wanted = parser.parse_args(arguments).scenes
    known = list(scenes())
    if unknown := set(wanted) - {scene.name for scene in known}:
        return _refuse(f"there is no scene {', '.join(sorted(unknown))}; there are: {_names(known)}")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return _refuse("no Chromium was found; on Debian: apt-get install chromium fonts-lato fonts-noto-color-emoji")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for scene in known:
        if not wanted or scene.name in wanted:
            _draw(browser, scene, "light", OUTPUT / f"{scene.name}.png")
            if scene.name in DARK:
                _draw(browser, scene, "dark", OUTPUT / f"{scene.name}-dark.png")
    if not wanted:
        (OUTPUT / "README.md").write_text(_index(known), encoding="utf-8")
    return 0


def _draw(browser: str, scene: Scene, theme: Theme, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page(scene.posted, theme), encoding="utf-8")
        command = [browser, *QUIETLY, f"--user-data-dir={folder}/user", source.as_uri()]
        measured = _run([*command, f"--window-size={WIDTH_PX},{TALLEST_PX}", "--dump-dom"])
        found = re.search(r"data-height=\"(\d+)\"", measured)
        height = int(found[1]) if found else TALLEST_PX
        _run(
            [*command, f"--window-size={WIDTH_PX},{height}", "--force-device-scale-factor=2", f"--screenshot={picture}"]
        )
    with Image.open(picture) as whole:
        whole.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture.relative_to(OUTPUT.parents[1])}  {picture.stat().st_size // 1024} KB")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _index(known: list[Scene]) -> str:
    rows = [f"| [{scene.name}]({scene.name}.png) | {scene.what} |" for scene in known]
    return INDEX + "\n".join([*rows, ""])


def _names(known: list[Scene]) -> str:
    return ", ".join(scene.name for scene in known)


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
