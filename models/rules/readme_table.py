"""The README's table of detectors, written from the detectors themselves."""

from collections.abc import Iterable
from typing import Any, Final

from models.detectors import REGISTRY
from models.detectors.base import Detector

BEGIN: Final = "<!-- detectors: written by `make schemas` from models/detectors -->\n"
END: Final = "<!-- /detectors -->"


def with_table(readme: str) -> str:
    """The README's text with the table brought up to date between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + _table() + END + after


def _table() -> str:
    lines = ["| policy table | what it does | unless told otherwise |", "|---|---|---|"]
    for detector in dict.fromkeys(REGISTRY.values()):
        tables = " or ".join(f"`[[{table}]]`" for table in detector.tables or (detector.name,))
        lines.append(f"| {tables} | {_first_sentence(detector)} | {_default(detector)} |")
    return "\n".join(lines) + "\n"


def _first_sentence(detector: type[Detector[Any]]) -> str:
    text = " ".join((detector.__doc__ or "").split())
    return text.split(". ")[0].rstrip(".")


def _default(detector: type[Detector[Any]]) -> str:
    rules: Iterable[Any] = (detector.settings_class.model_validate(settings) for settings in detector.defaults)
    said = [f"{rule.mode}, at most {rule.severity}" for rule in rules]
    if not said:
        return f"off: {detector.why_off}"
    return "; ".join(said) + (", always on" if detector.always_on else "")
