"""A second reading of our JSON Schema files, by other code than the one that decodes messages.

Only the keywords our files use; any other is an error, so that nothing goes unchecked. Where the `jsonschema`
package is installed, the tests ask it too.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SAYS_NOTHING = {"$schema", "title", "$defs", "description", "default", "discriminator", "format"}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
    "number": (int, float),
}


def faults(root: Mapping[str, Any], value: Any) -> list[str]:
    """What the schema `root` has against `value`, each with its place; empty if nothing."""
    return list(_faults(root, root, value, "$"))


def _faults(root: Mapping[str, Any], schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    for word, rule in schema.items():
        match word:
            case "$ref":
                yield from _faults(root, root["$defs"][rule.removeprefix("#/$defs/")], value, at)
            case "anyOf":
                branches = [list(_faults(root, branch, value, at)) for branch in rule]
                if all(branches):
                    yield f"{at}: fits none of {len(branches)}: {'; '.join(branch[0] for branch in branches)}"
            case "items":
                for index, item in enumerate(value if isinstance(value, list) else ()):
                    yield from _faults(root, rule, item, f"{at}[{index}]")
            case "properties" | "additionalProperties" | "required":
                if isinstance(value, dict):
                    yield from _members(root, schema, word, value, at)
            case _:
                if word not in _SAYS_NOTHING and not _holds(word, rule, value):
                    yield f"{at}: {word} {rule!r} does not hold"


def _members(
    root: Mapping[str, Any], schema: Mapping[str, Any], word: str, value: dict[str, Any], at: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    match word, schema[word]:
        case "required", names:
            yield from (f"{at}: {name} is missing" for name in names if name not in value)
        case "properties", _:
            for name in known.keys() & value.keys():
                yield from _faults(root, known[name], value[name], f"{at}.{name}")
        case "additionalProperties", False:
            yield from (f"{at}: {name} is unknown" for name in value.keys() - known.keys())
        case "additionalProperties", Mapping() as rule:
            for name in value.keys() - known.keys():
                yield from _faults(root, rule, value[name], f"{at}.{name}")


def _holds(word: str, rule: Any, value: Any) -> bool:
    """Whether one keyword holds; those about other kinds of value hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match word:
        case "type":
            return any(_is(name, value) for name in ([rule] if isinstance(rule, str) else rule))
        case "enum":
            return any(type(value) is type(word) and value == word for word in rule)
        case "const":
            return type(value) is type(rule) and bool(value == rule)
        case "minimum":
            return not number or value >= rule
        case "maximum":
            return not number or value <= rule
        case "exclusiveMinimum":
            return not number or value > rule
        case "exclusiveMaximum":
            return not number or value < rule
        case "minLength" | "minItems" | "minProperties":
            return (length := _length(word, value)) is None or length >= rule
        case "maxLength" | "maxItems" | "maxProperties":
            return (length := _length(word, value)) is None or length <= rule
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "propertyNames":
            return not isinstance(value, dict) or all(not faults(rule, name) for name in value)
    raise NotImplementedError(f"the schema uses {word!r}, which this check does not know")


def _is(name: str, value: Any) -> bool:
    if name == "integer":
        return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value % 1 == 0))
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _length(word: str, value: Any) -> int | None:
    """What `word` counts in the value; None where it has nothing to count."""
    match word[3:], value:
        case ("Length", str()) | ("Items", list()) | ("Properties", dict()):
            return len(value)
    return None
