"""Which modules mypyc compiles: all that decides, but what declares settings.

One rule and no list, so that a class and its subclasses stay on one side: an interpreted class cannot inherit from a
compiled one.
"""

from collections.abc import Iterator
from pathlib import Path

COMPILED = "models"
INTERPRETED = ("models.detectors", "models.rules.service_rules")
"""Detectors stand beside their settings, which pydantic reads from annotations at run time. Of
`Annotated[int, Field(ge=0)]` mypyc keeps `int`: a policy's mistakes would be accepted without a word."""


def is_compiled(module: str) -> bool:
    """Whether a module, by its full name, is compiled. Packages and commands hold nothing that would gain."""
    return _is_within(module, COMPILED) and not any(_is_within(module, name) for name in INTERPRETED)


def compiled_files(root: Path) -> Iterator[Path]:
    """The files to compile, relative to the folder that holds our packages."""
    for path in sorted((root / COMPILED).rglob("*.py")):
        inside = path.relative_to(root)
        if not path.stem.startswith("__") and is_compiled(".".join(inside.with_suffix("").parts)):
            yield inside


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
