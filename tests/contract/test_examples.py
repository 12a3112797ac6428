"""The examples are what other teams copy from: every one is read as meant, or refused as meant."""

import json
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from models.rules.policy import read_policy_json
from schemas.codec import (
    decode_alert,
    decode_command,
    decode_operator,
    decode_rollup,
    decode_run,
    decode_usage,
    encode,
)
from schemas.dead_letter import DeadLetter
from schemas.errors import Undecodable
from schemas.export import MESSAGES
from schemas.operator import OperatorMessage
from schemas.topics import load_topics
from schemas.usage import UsageMessage
from tests.support.examples import FOLDER, REFUSED, Example, examples

READERS: dict[str, Callable[[bytes], Any]] = {
    "usage.v1": decode_usage,
    "alerts.v1": decode_alert,
    "control.v1": decode_command,
    "operator.v1": decode_operator,
    "rollups.v1": decode_rollup,
    "runs.v1": decode_run,
    "usage.dlq.v1": msgspec.json.Decoder(DeadLetter).decode,
}
WIRE = [example for example in examples() if example.topic in READERS]


def _known(message: msgspec.Struct) -> dict[str, Any]:
    """Field -> its default, `NODEFAULT` where it must be given."""
    return {field.encode_name: field.default for field in msgspec.structs.fields(message)}


@pytest.mark.parametrize("example", WIRE, ids=str)
def test_what_is_read_and_written_again_says_the_same(example: Example) -> None:
    """No known field is lost or changed on its way through; unknown ones and those at their default are left out."""
    message = READERS[example.topic](example.data)
    known = _known(message)
    tag = message.__struct_config__.tag_field
    optional = message.__struct_config__.omit_defaults
    expected = {
        name: value
        for name, value in example.value.items()
        if name == tag or (name in known and not (optional and value == known[name]))
    }
    assert json.loads(encode(message)) == expected
    assert READERS[example.topic](encode(message)) == message


@pytest.mark.parametrize("example", examples(REFUSED), ids=str)
def test_refused_examples_are_refused_for_their_reason(example: Example) -> None:
    """A producer's mistake is named by the reason that the file's name promises."""
    with pytest.raises(Undecodable) as caught:
        decode_usage(example.data)
    assert caught.value.reason == example.name.partition(".")[0]


@pytest.mark.parametrize("example", examples("policy.v1"), ids=str)
def test_policy_examples_are_policies(example: Example) -> None:
    """What the policy examples say can be put in force, and is the same once it has travelled."""
    sent = read_policy_json(example.data).to_json()
    assert read_policy_json(sent).to_json() == sent


@pytest.mark.parametrize("kind", get_args(UsageMessage))
@pytest.mark.parametrize("size", ["minimal", "full"])
def test_every_type_has_an_example_with_as_little_and_as_much_as_it_can_say(
    kind: type[msgspec.Struct], size: str
) -> None:
    """A new field or type without an example fails here."""
    fields = msgspec.structs.fields(kind)
    wanted = {field.encode_name for field in fields if size == "full" or field.required}
    (example,) = (each for each in examples("usage.v1") if each.name == f"{kind.__struct_config__.tag}-{size}")
    assert example.value.keys() == wanted | {"type"}


def test_every_operator_message_has_an_example() -> None:
    """All that people can order is shown."""
    shown = {example.value["type"] for example in examples("operator.v1")}
    assert shown == {kind.__struct_config__.tag for kind in get_args(OperatorMessage)}


def test_no_folder_is_missing_and_none_is_left_over() -> None:
    """Every topic with a documented message has examples, and every folder belongs to a declared topic."""
    folders = {path.name for path in FOLDER.iterdir() if any(path.glob("*.json"))} - {REFUSED}
    assert MESSAGES.keys() | {"policy.v1"} <= folders <= load_topics().keys()
