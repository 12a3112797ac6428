"""Measure, print tables, write JSON. Nothing is asserted: figures of one machine are not promises of another."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.kafka.jars import KafkaUnavailableError
from infra.service import ROOT
from tests.bench import (
    alarms,
    asleep,
    console,
    engine,
    gateway,
    guards,
    latency,
    memory,
    rebalances,
    report,
    restore,
    rolling,
    rules,
    side_by_side,
    sink,
    telling,
    throughput,
)
from tests.bench.machine import facts
from tests.bench.report import Part
from tests.bench.worker_process import Side, side

Options = argparse.Namespace

PARTS: dict[str, Callable[[Options], Part]] = {
    "engine": lambda options: engine.measure(options.events or 100_000, options.rounds or 1),
    "rules": lambda options: rules.measure(options.events or 60_000, options.rounds or 3),
    "memory": lambda options: memory.measure(options.runs or 20_000, options.rounds or 1),
    "asleep": lambda options: asleep.measure(options.runs or 1_000_000, options.rounds or 1),
    "alarms": lambda options: alarms.measure(options.rounds or 2, first=options.seed),
    "worker": lambda options: throughput.measure(
        options.events or 300_000, options.rounds or 3, options.policy or engine.POLICIES, options.beside
    ),
    "latency": lambda options: latency.measure(_sides(options), options.rates, options.seconds, options.rounds or 1),
    "telling": lambda options: telling.measure(options.seconds, options.rounds or 1),
    "gateway": lambda options: gateway.measure(options.seconds, options.rounds or 1),
    "guards": lambda options: guards.measure(options.causes, options.guards),
    "console": lambda options: console.measure(options.rounds or 1),
    "restore": lambda options: restore.measure(options.runs or 300_000, options.rounds or 3),
    "sink": lambda options: sink.measure(options.events or 100_000, options.rounds or 3),
    "rebalances": lambda options: rebalances.measure(options.runs or 100_000, options.rounds or 50),
    "rolling": lambda options: rolling.measure(options.rates[0], options.rounds or 3),
    "peers": lambda options: side_by_side.measure(options.events or 120_000, options.rounds or 3),
}
"""Part -> how it is measured. Without an option all of them together take less than a quarter of an hour."""
NEEDS_KAFKA = {
    "worker", "latency", "telling", "gateway", "guards", "console", "restore", "sink", "rebalances", "rolling", "peers",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that were asked for, all by default; returns the exit code."""
    options = _parser().parse_args(arguments)
    machine = facts()
    report.print_facts(machine)
    parts: list[Part] = []
    for name in options.parts or PARTS:
        started = time.monotonic()
        try:
            part = PARTS[name](options)
        except KafkaUnavailableError as error:
            print(f"{name}: not measured, it needs a real Kafka: {error}\n", flush=True)
            continue
        busy = os.getloadavg()[0]
        part.notes.append(f"took {time.monotonic() - started:.0f} s; load average at its end {busy:.1f}")
        parts.append(part)
        report.print_part(part)
        report.write(parts, machine, vars(options))  # after every part, so that an interrupt loses one at most
    print(f"written to {report.OUTPUT}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--events", type=_positive, help="events per round, for engine, worker and peers")
    parser.add_argument("--seed", type=_positive, default=1, help="the first of alarms' seeds")
    parser.add_argument("--causes", type=_positive, default=50, help="for guards, runs that are stopped through each")
    parser.add_argument(
        "--guards", nargs="+", choices=guards.GUARDS, metavar="GUARD", help=f"for guards: {', '.join(guards.GUARDS)}"
    )
    parser.add_argument("--rounds", type=_positive, help="rounds of each part; the middle one is shown")
    parser.add_argument("--runs", type=_positive, help="runs, for memory, asleep and restore")
    parser.add_argument("--rates", type=_positive, nargs="+", default=[1_000, 10_000], help="for latency, events/s")
    parser.add_argument("--seconds", type=_positive, default=15, help="for latency, how long each rate is offered")
    parser.add_argument("--home", type=Path, default=ROOT, help="for latency, the folder whose worker is measured")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FOLDER",
        help="for latency and worker, another checkout that takes turns with it",
    )
    parser.add_argument(
        "--policy",
        nargs="+",
        metavar="NAME",
        help="for latency (one) and worker: of the checkout's own bench, or a file",
    )
    return parser


def _sides(options: Options) -> list[Side]:
    homes = [options.home] if options.beside is None else [options.beside, options.home]
    return [side(home, (options.policy or [latency.POLICY])[0]) for home in homes]


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part {name!r}")
    return name


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
