"""Grafana's dashboards as data: what each panel asks Prometheus, and what it shows somebody who asks."""

from typing import Final, NamedTuple


class Query(NamedTuple):
    """What Prometheus is asked, and the name of each line it answers with."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """One picture.

    Args:
        title: what it is.
        says: what it means, and from when on it is bad.
        queries: what it shows.
        unit: Grafana's word for the unit.
        red: from which value on it is red; None for never.
        width: of the 24 columns.
        kind: Grafana's word for the picture.
    """

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: str = "short"
    red: float | None = None
    width: int = 12
    kind: str = "timeseries"


class Note(NamedTuple):
    """A text across the page, in Markdown."""

    text: str


class Row(NamedTuple):
    """A heading across the page, over the panels that follow."""

    title: str


class Dashboard(NamedTuple):
    """A page of panels."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel | Note | Row, ...]


def quantile(share: float, histogram: str, by: str = "le") -> str:
    """Within which time that share of what a histogram has counted was done."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket[5m])))"


FUSE: Final = Dashboard(
    uid="spendfuse-fuse",
    title="Spendfuse: is the fuse working?",
    about="Whether spend is counted, runs are stopped and people are told. Each alert has a page in docs/runbooks.",
    panels=(
        Panel(
            "Partitions without a worker",
            "Anything but 0 for two minutes: their tenants are not counted, and their runs are not stopped.",
            (Query("max(spendfuse_topic_partitions) - sum(spendfuse_partitions)"),),
            red=1, width=4, kind="stat",
        ),
        Panel(
            "Behind",
            "How long the slowest partition has been behind its input: alerts and kills come that much later.",
            (Query("max(spendfuse_lag_seconds)"),),
            unit="s", red=45, width=4, kind="stat",
        ),
        Panel(
            "Not committed for",
            "For how long what was to be committed could not be. Nothing leaves a worker without its commit.",
            (Query("max(spendfuse_uncommitted_seconds)"),),
            unit="s", red=60, width=4, kind="stat",
        ),
        Panel(
            "Kills unanswered, an hour",
            "Runs that were told to stop and went on spending, or did not answer.",
            (Query("sum(increase(spendfuse_unanswered_kills_total[1h]))"),),
            red=1, width=4, kind="stat",
        ),
        Panel(
            "Pages that wait",
            "Alerts that should wake somebody and have not been delivered.",
            (Query("sum(spendfuse_alerting_overdue_pages)"),),
            red=1, width=4, kind="stat",
        ),
        Panel(
            "No broker for",
            "For how long no broker has answered. It is waited for; nothing is lost meanwhile.",
            (Query("max(spendfuse_broker_away_seconds)"), Query("max(spendfuse_alerting_broker_away_seconds)")),
            unit="s", red=60, width=4, kind="stat",
        ),
        Panel(
            "Behind, by partition",
            "Seconds in which the input is not counted to where it ended. One alone: a tenant that sends most.",
            (Query("max by (partition) (spendfuse_lag_seconds)", "partition {{partition}}"),),
            unit="s", red=45,
        ),
        Panel(
            "Records behind, by partition",
            "What is not counted yet, and what somebody's open transaction holds back.",
            (
                Query("max by (partition) (spendfuse_lag_records)", "partition {{partition}}"),
                Query("max by (partition) (spendfuse_held_records)", "held, partition {{partition}}"),
            ),
        ),
        Panel(
            "A batch, from taking it to its commit",
            "The floor of every kill's delay: a command is out when its batch is committed.",
            (
                Query(quantile(0.5, "spendfuse_batch_seconds"), "half within"),
                Query(quantile(0.99, "spendfuse_batch_seconds"), "99 % within"),
            ),
            unit="s", red=1,
        ),
        Panel(
            "From the cause to the stop",
            "From the event that breaks a limit until the run's guard acknowledges its kill.",
            (
                Query(quantile(0.5, "spendfuse_cause_to_stop_seconds"), "half within"),
                Query(quantile(0.99, "spendfuse_cause_to_stop_seconds"), "99 % within"),
            ),
            unit="s", red=10,
        ),
        Panel(
            "Commits and aborts",
            "Transactions a second. Aborts lose nothing and cost seconds each; more than three in 15 minutes are told.",
            (
                Query("sum by (instance) (rate(spendfuse_batches_total[5m]))", "commits, {{instance}}"),
                Query("sum by (instance) (rate(spendfuse_aborts_total[5m]))", "aborts, {{instance}}"),
            ),
            unit="ops",
        ),
        Panel(
            "Dead letters, by reason",
            "Records that count nowhere, an hour. `python -m streams dlq` says which, and what to do.",
            (Query("sum by (reason) (increase(spendfuse_dead_letters_total[1h]))", "{{reason}}"),),
        ),
        Panel(
            "Deliveries that failed, by receiver",
            "Attempts in ten minutes, beside what was sent. Whatever pages is tried again until it arrives.",
            (
                Query(
                    "sum by (receiver, reason) (increase(spendfuse_alerting_failed_total[10m]))",
                    "{{receiver}}: {{reason}}",
                ),
                Query("sum by (receiver) (increase(spendfuse_alerting_sent_total[10m]))", "{{receiver}}: sent"),
            ),
        ),
        Panel(
            "From the cause to the message",
            "From an alert's cause until a receiver has its message: 99 of 100 within.",
            (Query(quantile(0.99, "spendfuse_alerting_cause_to_sent_seconds", "le, receiver"), "{{receiver}}"),),
            unit="s",
        ),
        Panel(
            "Reading state back",
            "The length of a worker's last restore. While one lasts, the tenants of its partitions are not counted.",
            (
                Query("max by (instance) (spendfuse_restore_seconds)", "{{instance}}"),
                Query("max by (instance) (spendfuse_restoring)", "restoring now, {{instance}}"),
            ),
            unit="s", red=60,
        ),
        Panel(
            "Signs of life, by partition",
            "Each partition shows on alerts.v1 that it counts. At 0 nobody works there, whatever else looks well.",
            (Query("sum by (partition) (increase(spendfuse_watchdog_beats_total[5m]))", "{{partition}}"),),
        ),
        Panel(
            "Memory",
            "Of each process. A worker holds the state of its partitions.",
            (Query("process_resident_memory_bytes", "{{job}} {{instance}}"),),
            unit="bytes",
        ),
        Panel(
            "Where a worker's time goes",
            "Seconds a second. `decide` near 1 is a full core: more workers help, up to one a partition.",
            (Query("sum by (step) (rate(spendfuse_step_seconds_total[5m]))", "{{step}}"),),
            unit="s",
        ),
    ),
)  # fmt: skip

SPEND: Final = Dashboard(
    uid="spendfuse-spend",
    title="Spendfuse: what goes on now",
    about="What arrives, what is found in it and what is done about it.",
    panels=(
        Note(
            "**Money is not in these metrics.** A series for every tenant, owner and project would have no end. "
            "Spend by each of them is on the live page (`python -m streams console`), in the store of "
            "`python -m streams sink` and in the weekly review; here is what arrives, what is found, and what is done."
        ),
        Panel(
            "Usage counted",
            "Events a second, over all workers, and what came twice, too late or for earlier days.",
            (
                Query("sum(rate(spendfuse_events_total[5m]))", "counted"),
                Query("sum(rate(spendfuse_duplicates_total[5m]))", "seen before"),
                Query("sum(rate(spendfuse_too_late_total[5m]))", "too late"),
                Query("sum(rate(spendfuse_backfilled_total[5m]))", "of earlier days"),
            ),
            unit="ops",
        ),
        Panel(
            "Taken over HTTP, by source",
            "Messages a second that gateways took, and those they refused.",
            (
                Query("sum by (source) (rate(spendfuse_gateway_accepted_total[5m]))", "{{source}}"),
                Query(
                    "sum by (source, reason) (rate(spendfuse_gateway_rejected_total[5m]))", "{{source}}: {{reason}}"
                ),
            ),
            unit="ops",
        ),
        Panel(
            "Incidents opened, by rule",
            "In an hour, shadow rules included.",
            (Query("sum by (rule) (increase(spendfuse_alerts_total{state=\"open\"}[1h]))", "{{rule}}"),),
        ),
        Panel(
            "Commands, by what they want",
            "In an hour: kills, pauses, downgrades, nudges and what was let go on.",
            (Query("sum by (action) (increase(spendfuse_commands_total[1h]))", "{{action}}"),),
        ),
        Panel(
            "Questions of guards over HTTP",
            "Answered a second, by decision.",
            (Query("sum by (decision) (rate(spendfuse_gateway_verdicts_total[5m]))", "{{decision}}"),),
            unit="ops",
        ),
        Panel(
            "A request to the gateway",
            "99 of 100 are answered within, by source. Usage is answered when the brokers, or the disk, have it.",
            (Query(quantile(0.99, "spendfuse_gateway_request_seconds", "le, source"), "{{source}}"),),
            unit="s",
        ),
        Panel(
            "On the gateways' disks",
            "What no broker has taken yet. It is handed on when one is back.",
            (Query("sum by (instance) (spendfuse_gateway_spool_bytes)", "{{instance}}"),),
            unit="bytes",
        ),
        Panel(
            "Keys closed at providers",
            "1 while an enforcer has closed its key, because a command stands.",
            (
                Query("max by (enforcer) (spendfuse_enforcer_closed)", "{{enforcer}}"),
                Query("max by (enforcer) (spendfuse_enforcer_overdue_seconds)", "overdue seconds, {{enforcer}}"),
            ),
        ),
        Panel(
            "Our figures against the providers'",
            "The largest share of a day's figures by which they differ, by console and report.",
            (Query("max by (console, report) (spendfuse_reconcile_difference_share)", "{{console}}, {{report}}"),),
            unit="percentunit",
        ),
    ),
)  # fmt: skip
