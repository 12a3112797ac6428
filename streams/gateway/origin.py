"""Through which door a record came: a header that the gateway writes, for whoever asks what arrives from whom."""

from typing import Final, NamedTuple

from schemas.edge.access_key import AccessKey
from schemas.signing import Headers

HEADER: Final = "spendfuse-origin"


class Origin(NamedTuple):
    """A source of the gateway, and the key that it came with."""

    source: str
    key_id: str

    def __str__(self) -> str:
        return f"{self.source}/{self.key_id}"


DIRECT: Final = Origin("Kafka", "")
"""Of a record that came through no gateway."""


def origin_of(source: str, key: AccessKey) -> str:
    """The header's value for what comes from a source with a key."""
    return str(Origin(source, key.key_id))


def read_origin(headers: Headers | None) -> Origin:
    """How a record came."""
    value = next((value for name, value in headers or () if name == HEADER), None)
    if not isinstance(value, bytes):
        return DIRECT
    source, _, key_id = value.decode("utf-8", "replace").rpartition("/")
    return Origin(source, key_id)
