"""The policies of a story: what was in force when it began, and what was published meanwhile."""

from collections.abc import Iterable, Iterator

from alerting.rendering.foreign import name
from models.rules.policy import read_policy_json
from schemas.errors import PolicyError
from streams.tools.story.fact import Fact
from streams.tools.story.records import Recorded


def policy_facts(records: Iterable[Recorded[bytes]], since_ms: int, until_ms: int) -> Iterator[Fact]:
    """The last policy published before a stretch of time, and all within it; a faulty one was in force for nobody."""
    before: Fact | None = None
    for one in records:
        fact = _fact(one)
        if one.at_ms > until_ms:
            continue
        if one.at_ms >= since_ms:
            yield fact
        elif not fact.data["faults"]:
            before = fact
    if before is not None:
        yield before


def _fact(one: Recorded[bytes]) -> Fact:
    try:
        version, faults = read_policy_json(one.value).version, 0
    except PolicyError as error:
        version, faults = "", len(error.faults)
    text = f"a policy with {faults} faults was refused" if faults else f"policy {name(version, 60)} in force"
    return Fact(
        place=one.place,
        at_ms=one.at_ms,
        kind="policy",
        text=text,
        data={"version": version, "faults": faults},
    )
