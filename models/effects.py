"""All that the engine can ask of the world: a message on a topic, in the order in which it was decided."""

from typing import Literal, NamedTuple

from schemas.alert import Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from schemas.internal.spend import SpendDelta
from schemas.rollup import Rollup
from schemas.run import RunRecord
from schemas.signing import KeyId

Topic = Literal["alerts.v1", "control.v1", "rollups.v1", "runs.v1", "spend.v1", "usage.dlq.v1"]


class Effect(NamedTuple):
    """Publish `value` under `key`. `signer` says on whose word a command is given."""

    topic: Topic
    key: str
    value: Alert | Command | Rollup | RunRecord | SpendDelta | DeadLetter
    signer: KeyId | None = None
