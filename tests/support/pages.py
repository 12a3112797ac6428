"""What the pages of docs tell people to paste."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONNECT = ROOT / "docs" / "connect"


def fences(path: Path, language: str) -> list[str]:
    """A page's fenced blocks in one language."""
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def typed(path: Path) -> list[str]:
    """A page's indented blocks: what is typed in a shell."""
    return re.findall(r"(?:^ {4}.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
