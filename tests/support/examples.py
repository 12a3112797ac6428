"""The example messages under `schemas/examples/`, by topic and file name."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import schemas

FOLDER = Path(schemas.__file__).with_name("examples")
REFUSED = "refused"


class Example(NamedTuple):
    """One file. Refused ones are named `<reason>.<what is wrong>.json`."""

    topic: str
    name: str
    data: bytes

    @property
    def value(self) -> Any:
        """What the file says, as JSON values."""
        return json.loads(self.data)

    def __str__(self) -> str:
        return f"{self.topic}/{self.name}"


def examples(topic: str = "*") -> list[Example]:
    """The examples of a topic, or all but the refused ones."""
    return [
        Example(path.parent.name, path.stem, path.read_bytes())
        for path in sorted(FOLDER.glob(f"{topic}/*.json"))
        if topic == REFUSED or path.parent.name != REFUSED
    ]
