"""The JSON Schema files say what the codec does, to those who cannot run it."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import infra.demo
from models.__main__ import TABLES
from models.rules.policy import read_policy_json, read_policy_toml
from schemas.codec import decode_usage
from schemas.errors import Undecodable
from schemas.export import FOLDER, main, policy_document, stale, topic_documents, write
from tests.support.corpus import ACCEPTED, REFUSED
from tests.support.examples import REFUSED as REFUSED_FOLDER
from tests.support.examples import Example, examples
from tests.support.json_schema import faults

Validator = Callable[[dict[str, Any], Any], bool]


def _own(schema: dict[str, Any], value: Any) -> bool:
    return not faults(schema, value)


def _jsonschema(schema: dict[str, Any], value: Any) -> bool:
    return bool(importlib.import_module("jsonschema").Draft202012Validator(schema).is_valid(value))


VALIDATORS: list[Validator] = [_own, *([_jsonschema] if importlib.util.find_spec("jsonschema") else [])]
EVERY_VALIDATOR = pytest.mark.parametrize("fits", VALIDATORS)
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
SEEN_IN_BYTES_ONLY = {"two types", "cost whole with fraction", "cost with exponent", "cost minus zero with fraction"}
JUDGED_BY_SCHEMA = ("missing_field", "unknown_type", "wrong_value")
"""The other reasons are about bytes that hold no JSON value."""


def test_the_topics_files_are_up_to_date() -> None:
    """What is published is what the classes say."""
    assert not stale(topic_documents()), "schemas/json is stale: run `python -m schemas export`"


def test_the_policys_file_is_up_to_date() -> None:
    """The published policy schema knows every detector's table and settings."""
    assert not stale(policy_document(TABLES)), "schemas/json is stale: run `python -m models export`"


def test_no_file_is_left_over() -> None:
    """Every published schema belongs to a message we still have."""
    assert SCHEMAS.keys() == topic_documents().keys() | {"policy.v1"}


def test_every_file_is_json_schema() -> None:
    """Other teams' tools take our files as they are."""
    jsonschema = pytest.importorskip("jsonschema", reason="the jsonschema package is not installed")
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_check_names_what_is_stale_and_how_to_renew_it(tmp_path: Path) -> None:
    """A changed and a missing file are both seen; what was just written is not."""
    documents = topic_documents()
    write(documents, tmp_path)
    assert not stale(documents, tmp_path)
    (tmp_path / "usage.v1.json").write_text("{}")
    (tmp_path / "alerts.v1.json").unlink()
    assert stale(documents, tmp_path) == ["usage.v1", "alerts.v1"]


def test_a_wrong_word_on_the_command_line_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the words that are right."""
    assert main({}, "python -m schemas", ["exprot"]) == 2
    assert "python -m schemas export | check" in capsys.readouterr().out


@EVERY_VALIDATOR
@pytest.mark.parametrize("example", examples(), ids=str)
def test_every_example_fits_its_schema(fits: Validator, example: Example) -> None:
    """Who writes by the schema and looks at the example finds no contradiction."""
    assert fits(SCHEMAS[example.topic], example.value)


@EVERY_VALIDATOR
@pytest.mark.parametrize("example", examples(REFUSED_FOLDER), ids=str)
def test_every_refused_example_breaks_the_schema(fits: Validator, example: Example) -> None:
    """Who validates before sending is told of each mistake; a fraction of zero is all that JSON Schema cannot see."""
    assert fits(SCHEMAS["usage.v1"], example.value) == ("with-fraction" in example.name)


@EVERY_VALIDATOR
def test_policies_on_their_way_fit_the_schema(fits: Validator) -> None:
    """What policy.v1 carries after a TOML file was read fits as well, numbers with a fraction included."""
    demo = Path(infra.demo.__file__).with_name("policy.toml").read_text(encoding="utf-8")
    for policy in (read_policy_toml(demo), *(read_policy_json(example.data) for example in examples("policy.v1"))):
        assert fits(SCHEMAS["policy.v1"], json.loads(policy.to_json()))


@EVERY_VALIDATOR
def test_a_misspelt_setting_breaks_the_policys_schema(fits: Validator) -> None:
    """An editor that knows the schema marks what the service would refuse."""
    assert not fits(SCHEMAS["policy.v1"], {"cap": [{"name": "run-cost", "limit_uds": 5}]})
    assert not fits(SCHEMAS["policy.v1"], {"caps": []})


@EVERY_VALIDATOR
def test_schema_and_codec_agree_on_odd_messages(fits: Validator) -> None:
    """Over the whole corpus of odd input, where it is JSON and no name stands twice, both say the same."""
    values = [(name, value) for name, value, reason in REFUSED if reason in JUDGED_BY_SCHEMA and value]
    values += [(odd.name, odd.value) for odd in ACCEPTED if "deep" not in odd.name]
    disagree = [
        name
        for name, value in values
        if name not in SEEN_IN_BYTES_ONLY and not _too_long_for_json(value)
        if fits(SCHEMAS["usage.v1"], json.loads(value)) != _decodes(value)
    ]
    assert not disagree


def _too_long_for_json(value: bytes) -> bool:
    """The standard library refuses integers of more than 4300 digits."""
    return b"9" * 4301 in value


def _decodes(value: bytes) -> bool:
    try:
        decode_usage(value)
    except Undecodable:
        return False
    return True
