"""Our messages as JSON Schema, for those who write or read them in another language.

`schemas/json/<topic>.json` is made from the classes by `python -m schemas export`; the policy's, which needs to know
the detectors, by `python -m models export`.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.alert import Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from schemas.operator import OperatorMessage
from schemas.policy import PolicyHeader, RuleSettings
from schemas.rollup import Rollup
from schemas.routing import Routing
from schemas.run import RunRecord
from schemas.usage import UsageMessage

FOLDER: Final = Path(__file__).with_name("json")
MESSAGES: Final[Mapping[str, Any]] = {
    "usage.v1": UsageMessage,
    "alerts.v1": Alert,
    "control.v1": Command,
    "operator.v1": OperatorMessage,
    "rollups.v1": Rollup,
    "runs.v1": RunRecord,
    "usage.dlq.v1": DeadLetter,
}
"""Topic -> what its records hold."""

Document = dict[str, Any]
"""A JSON Schema, as JSON values."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WIRE_RULES: Final = (
    "JSON in UTF-8. Fields not named here are ignored. Integers are written without fraction or exponent: "
    "1 is accepted, 1.0 is not, which JSON Schema cannot tell apart. Money is in nano-dollars (1e-9 USD), "
    "times are epoch milliseconds."
)
_POLICY_RULES: Final = (
    "A policy, as the TOML file is written and as policy.v1 carries it. Names not listed here are refused. "
    "Rules that concern several values, such as thresholds that must rise, are checked when the policy is read."
)


def topic_documents() -> dict[str, Document]:
    """The JSON Schema of every topic whose records need no detector to be described."""
    documents = {
        topic: _document(topic, _WIRE_RULES, msgspec.json.schema(message, ref_template="#/$defs/{name}"))
        for topic, message in MESSAGES.items()
    }
    return documents | {"usage.v1": _unset_as_left_out(documents["usage.v1"])}


def policy_document(tables: Mapping[str, type[RuleSettings]]) -> dict[str, Document]:
    """The JSON Schema of policy.v1, given the settings of every rule table by the table's name."""
    classes: list[type[BaseModel]] = [PolicyHeader, Routing, *dict.fromkeys(tables.values())]
    references, definitions = models_json_schema([(each, "validation") for each in classes])
    header = definitions["$defs"].pop(PolicyHeader.__name__)
    header["properties"] |= definitions["$defs"].pop(Routing.__name__)["properties"]
    for table, settings in tables.items():
        one = references[settings, "validation"]
        header["properties"][table] = {"anyOf": [{"type": "array", "items": one}, one]}
    return {"policy.v1": _document("policy.v1", _POLICY_RULES, _texts_too(header | definitions))}


def rendered(document: Document) -> str:
    """The document as it stands in its file: the same one gives the same text."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write(documents: Mapping[str, Document], folder: Path = FOLDER) -> None:
    """Write each document to its file."""
    folder.mkdir(exist_ok=True)
    for topic, document in documents.items():
        _file(folder, topic).write_text(rendered(document), encoding="utf-8")


def stale(documents: Mapping[str, Document], folder: Path = FOLDER) -> list[str]:
    """The topics whose file is missing or says something else than the classes do."""
    return [
        topic
        for topic, document in documents.items()
        if not _file(folder, topic).is_file() or _file(folder, topic).read_text(encoding="utf-8") != rendered(document)
    ]


def main(documents: Mapping[str, Document], command: str, arguments: Sequence[str]) -> int:
    """Carry out `export` or `check` for these documents and return the exit code; `command` is what to run again."""
    match list(arguments):
        case ["export"]:
            write(documents)
            return 0
        case ["check"]:
            faults = stale(documents)
            if faults:
                print(f"schemas/json is not up to date for {', '.join(faults)}: run {command} export")
            return 1 if faults else 0
        case _:
            print(f"usage: {command} export | check")
            return 2


def _unset_as_left_out(value: Any) -> Any:
    """What may be left out may be null, and a text empty as well, which `schemas.codec` reads as the same."""
    match value:
        case {"anyOf": [{"enum": texts}, {"type": "null"} as null], **rest}:
            return {"anyOf": [{"enum": [*texts, ""]}, null], **rest}
        case {"enum": texts, "default": default, **rest}:
            return {"enum": [*texts, "", None], "default": default, **rest}
        case {"type": "integer" | "boolean", "default": default, **rest}:
            return {"anyOf": [{"type": value["type"], **rest}, {"type": "null"}], "default": default}
        case {"anyOf": [{"minLength": 1, **text}, {"type": "null"} as null], **rest}:
            return {"anyOf": [text, null], **rest}
        case {"additionalProperties": {"minLength": 1, **text}, **rest}:
            return {"additionalProperties": {"anyOf": [text, {"type": "null"}]}, **rest}
        case dict():
            return {key: _unset_as_left_out(item) for key, item in value.items()}
        case list():
            return [_unset_as_left_out(item) for item in value]
        case _:
            return value


def _texts_too(value: Any) -> Any:
    """Numbers with a fraction may be written as text, which is how policy.v1 carries them: exactly."""
    match value:
        case {"type": "number", **rest}:
            return {"type": ["number", "string"], **rest}
        case dict():
            return {key: _texts_too(item) for key, item in value.items()}
        case list():
            return [_texts_too(item) for item in value]
        case _:
            return value


def _file(folder: Path, topic: str) -> Path:
    return folder / f"{topic}.json"


def _document(topic: str, rules: str, schema: Document) -> Document:
    tidy: Document = _tidy(schema)
    if set(tidy) == {"$ref", "$defs"}:
        name = tidy["$ref"].removeprefix("#/$defs/")
        tidy = tidy["$defs"].pop(name) | ({"$defs": tidy["$defs"]} if tidy["$defs"] else {})
    said = tidy.pop("description", "")
    return {"$schema": _DIALECT, **tidy, "title": topic, "description": f"{said}\n\n{rules}".strip()}


def _tidy(value: Any) -> Any:
    """Without titles, which repeat names, and with descriptions freed of the indentation of their docstrings."""
    match value:
        case dict():
            kept = {key: _tidy(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
            if isinstance(kept.get("description"), str):
                kept["description"] = inspect.cleandoc(kept["description"])
            return kept
        case list():
            return [_tidy(item) for item in value]
        case _:
            return value
