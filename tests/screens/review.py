"""`python -m tests.screens.review`: draw the weekly review of the demo's two weeks, as on a desk and on a phone."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from alerting.review.page.page import page
from infra.demo.log.weeks import Weeks
from streams.tools.backtest import read_policy_file
from streams.tools.weekly import read_effects
from tests.screens.__main__ import BROWSERS, COLOURS, OUTPUT, QUIETLY

POLICY = OUTPUT.parents[1] / "infra" / "demo" / "policy.toml"
PICTURES = {"weekly-review": (1060, 1520), "weekly-review-phone": (390, 1480)}
"""Name -> width and height in CSS pixels: the page down to its hours."""
OUR_FONT = '"Liberation Sans", '
"""What a bare machine calls its system's font is not what people see."""


def draw(browser: str) -> None:
    """Draw all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        effects, html = Path(folder) / "weeks.jsonl", Path(folder) / "review.html"
        effects.write_bytes(b"".join(Weeks().lines()))
        text = page(read_effects(effects, read_policy_file(POLICY), None))
        html.write_text(text.replace("--sans: ", f"--sans: {OUR_FONT}"), encoding="utf-8")
        for name, (width, height) in PICTURES.items():
            picture = OUTPUT / f"{name}.png"
            sizes = (f"--window-size={width},{height}", "--force-device-scale-factor=2")
            command = [browser, *QUIETLY, f"--user-data-dir={folder}/{name}", *sizes, f"--screenshot={picture}"]
            subprocess.run([*command, html.as_uri()], check=True, capture_output=True, timeout=120)
            with Image.open(picture) as whole:
                whole.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)
            print(f"{picture.name}  {picture.stat().st_size // 1024} KB")


def main() -> int:
    """Draw them; returns the exit code."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("no Chromium was found; on Debian: apt-get install chromium fonts-liberation", file=sys.stderr)
        return 2
    draw(browser)
    return 0


if __name__ == "__main__":
    sys.exit(main())
