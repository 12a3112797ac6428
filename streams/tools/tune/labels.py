"""What somebody knows of runs: a file of labels, one JSON object a line.

`{"run_id": "r1", "label": "stuck"}`, with `session_id` in place of `run_id` for sessions. `stuck` is what should be
told, `working` and `waiting` what should not; `unsure` is left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from schemas.errors import SettingsError

Label = Literal["stuck", "working", "waiting", "unsure"]
IS_WRONG: Mapping[Label, bool] = {"stuck": True, "working": False, "waiting": False}
"""Label -> whether something is wrong with the run."""


class _Line(msgspec.Struct, frozen=True):
    label: Label
    run_id: str | None = None
    session_id: str | None = None


_decoder = msgspec.json.Decoder(_Line)


def read_labels(path: Path | None) -> dict[str, bool]:
    """Run or session -> whether it should be told of. Raises `SettingsError` with the line that cannot be read."""
    if path is None:
        return {}
    found: dict[str, bool] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} line {number}: {error}; {_HOW}") from None
        unit_id = line.run_id or line.session_id
        if unit_id is None:
            raise SettingsError(f"{path} line {number} names no run: {_HOW}")
        if line.label in IS_WRONG:
            found[unit_id] = IS_WRONG[line.label]
    return found


_HOW = 'write {"run_id": "r1", "label": "stuck"}, or working, waiting, unsure'
