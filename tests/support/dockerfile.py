"""The Dockerfile of the image, read as far as ours goes, and its files laid out as a build would."""

import fnmatch
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.deploy import ROOT

ENGINE: Final = "/opt/engine/"
"""Where a stage leaves its engine, which the image takes into its working directory."""
FILE: Final = ROOT / "infra" / "image" / "Dockerfile"
IGNORED: Final = ROOT / ".dockerignore"


class Step(NamedTuple):
    """One instruction: its word, in capitals, and what follows it on one line."""

    word: str
    rest: str
    stage: str


def steps(text: str) -> list[Step]:
    """Every instruction, with the stage that it belongs to; before the first `FROM` that is empty."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    found, stage = [], ""
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2] or rest
        found.append(Step(word, rest.strip(), stage))
    return found


def copied(text: str, stage: str) -> list[tuple[str, str]]:
    """What a stage takes from the context: source, and where to."""
    words = [step.rest.split() for step in steps(text) if step.word == "COPY" and step.stage == stage]
    return [(word[0], word[1]) for word in words if not word[0].startswith("--from")]


def lay_out(folder: Path, *stages: str) -> None:
    """Copy into an empty folder what a build would copy into the stages' working directory, and nothing else. Unless
    stages are named it is the image's, with the interpreted engine.
    """
    text = FILE.read_text(encoding="utf-8")
    for source, target in [pair for stage in stages or ("service", "interpreted") for pair in copied(text, stage)]:
        into = folder / target.removeprefix(ENGINE).removeprefix("/")
        for path in _files(ROOT / source):
            if is_sent(path.relative_to(ROOT)):
                place = into / path.name if target.endswith("/") else into / path.relative_to(ROOT / source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)


def is_sent(path: Path) -> bool:
    """Whether `.dockerignore` lets a file pass: the last line that fits says so."""
    sent = True
    for line in IGNORED.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and _fits(path, line.lstrip("!")):
            sent = line.startswith("!")
    return sent


def _fits(path: Path, pattern: str) -> bool:
    """Whether a pattern names a file, or a folder above it."""
    names = [path, *path.parents][:-1]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in path.parts)
    return any(fnmatch.fnmatch(name.as_posix(), pattern) for name in names)


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())
