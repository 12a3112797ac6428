"""The spool of a gateway: what one has left on the disk, the next one reads."""

import struct
from pathlib import Path

import msgspec

from streams.gateway.spool import Record, Spool


def test_what_a_gateway_of_before_has_left_is_read(tmp_path: Path) -> None:
    """Its records say nothing of how they came; those of now do."""
    frame = msgspec.msgpack.encode(("usage.v1", b"acme", b"{}"))
    (tmp_path / "000000000001.spool").write_bytes(struct.pack("<I", len(frame)) + frame)
    spool = Spool(tmp_path, 1 << 20)
    records = [Record("usage.v1", b"acme", b"{}"), Record("usage.v1", b"acme", b"[]", "otlp-logs/aa")]
    spool.add(records[1:])
    left = []
    while (kept := spool.oldest()) is not None:
        segment, found = kept
        left += found
        spool.remove(segment)
    assert left == records
    spool.close()
