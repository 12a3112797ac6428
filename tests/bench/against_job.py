"""Run by `tests.bench.against` in the folder of any checkout: its own engine over a given log.

Reaches for the names that older checkouts have as well.
"""

# ruff: noqa: E402
# mypy: ignore-errors
import gc
import json
import pickle
import statistics
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

BATCH = 20_000


def main(policy: str, log: str, warm_up: str) -> None:
    """Print step -> microseconds of processor time an event: medians over batches, `all` their mean."""
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
    gc.disable()  # as the worker does
    spent = {"decode": [], "decide": [], "rows": [], "records": []}
    for first in range(int(warm_up), len(events), BATCH):
        batch = events[first : first + BATCH]
        marks = [time.process_time()]
        messages = [decode_usage(value) for value, _ in batch]
        marks.append(time.process_time())
        for message, (_, ts_ms) in zip(messages, batch, strict=True):
            usage(message, ts_ms)
        marks.append(time.process_time())
        drain_rows()
        marks.append(time.process_time())
        for effect in drain_effects():
            encode(effect.value)
        marks.append(time.process_time())
        for step, start, end in zip(spent, marks, marks[1:], strict=False):
            spent[step].append(1e6 * (end - start) / len(batch))
    found = {step: statistics.median(values) for step, values in spent.items()}
    print(json.dumps(found | {"all": statistics.fmean(map(sum, zip(*spent.values(), strict=True)))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
