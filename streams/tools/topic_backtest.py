"""A backtest over what the topics hold: recorded to a file first, and that replayed."""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from streams.settings import Settings
from streams.tools.backtest import Asked, FileLog, read_policy_file, run_log
from streams.tools.record import Range, refusals, write_record


def run_topic_backtest(
    settings: Settings, span: Range, policy: Path | None, out: Path | None, against: Path | None, asked: Asked
) -> int:
    """Run a backtest over what the topics hold of a stretch of time. Returns the exit code; raises `SpendfuseError`.

    Without a policy file those in force at the time rule, as the worker followed them. A policy that is given is to be
    tried: it stays in force.
    """
    ours = settings.file_policy() if policy is None else read_policy_file(policy)
    theirs = None if against is None else read_policy_file(against)
    asked = replace(asked, keeps_policy=asked.keeps_policy or policy is not None)
    with TemporaryDirectory(prefix="spendfuse-") as folder:
        path = Path(folder) / "record.jsonl"
        for line in refusals(settings, write_record(settings, span, path)):
            print(line, file=sys.stderr)
        return run_log(FileLog(path, progress=True, name="usage.v1"), ours, out, theirs, str(against), asked)
