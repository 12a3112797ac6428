"""Run by `tests.bench.against` in the folder of any checkout: its own engine over a given log.

Reaches for the names that older checkouts have as well.
"""

# ruff: noqa: E402
# mypy: ignore-errors
import gc
import json
import os
import pickle
import sys
import time
from pathlib import Path

sys.path[0] = str(Path.cwd())

try:
    from models.rules.policy import read_policy_toml
except ImportError:
    from models.policy import read_policy_toml
from models.engine import Engine
from models.stimuli import UsageSeen
from schemas.codec import decode_usage, encode


def main(policy: str, log: str, warm_up: str, size: str) -> None:
    """Take the log's next `size` events for each line of the input, once it has said `ready`; print step ->
    microseconds of processor time an event, and the bytes of rows.
    """
    if hasattr(os, "sched_setaffinity"):  # whoever has a core with a busy neighbour is slower
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    events = pickle.loads(Path(log).read_bytes())
    engine = Engine(read_policy_toml(Path(policy).read_text(encoding="utf-8")))
    usage = getattr(engine, "usage", None) or (lambda message, ts_ms: engine.handle(UsageSeen(message, ts_ms)))
    drain_rows = getattr(engine, "drain_rows", None) or engine.take_rows
    drain_effects = getattr(engine, "drain_effects", None) or engine.take_effects
    for value, ts_ms in events[: int(warm_up)]:
        usage(decode_usage(value), ts_ms)
    drain_rows()
    drain_effects()
    gc.collect()
    gc.freeze()
    gc.disable()  # as the worker does
    print("ready", flush=True)
    for first, _ in zip(range(int(warm_up), len(events), int(size)), sys.stdin, strict=False):
        part = events[first : first + int(size)]
        marks = [time.process_time()]
        messages = [decode_usage(value) for value, _ in part]
        marks.append(time.process_time())
        for message, (_, ts_ms) in zip(messages, part, strict=True):
            usage(message, ts_ms)
        marks.append(time.process_time())
        rows = drain_rows()
        marks.append(time.process_time())
        for effect in drain_effects():
            encode(effect.value)
        marks.append(time.process_time())
        steps = zip(("decode", "decide", "rows", "records"), marks, marks[1:], strict=False)
        found = {step: 1e6 * (end - start) / len(part) for step, start, end in steps}
        size_of_rows = sum(len(key) + len(value or b"") for key, value in rows) / len(part)
        print(json.dumps(found | {"all": sum(found.values()), "bytes": size_of_rows}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
