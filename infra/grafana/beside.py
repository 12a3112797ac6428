"""The page of what runs beside the fuse: gateways, the sink, the live page, pollers, enforcers, reconciliation."""

from typing import Final

from infra.grafana.panels import Dashboard, Panel, Query, Row, quantile

BESIDE: Final = Dashboard(
    uid="spendfuse-beside",
    title="Spendfuse: what runs beside the fuse",
    about="How usage gets in, how it gets into tables and onto the page, and what reaches providers. Empty: none runs.",
    panels=(
        Row("Gateways"),
        Panel(
            "Requests, by source",
            "Answered a second. 503 is usage that neither brokers nor disk took: senders that try once have lost it.",
            (Query("sum by (source, status) (rate(spendfuse_gateway_requests_total[5m]))", "{{source}}: {{status}}"),),
            unit="reqps",
        ),
        Panel(
            "On the disk, of what it may take",
            "The share of each gateway's disk that waits for a broker. Full, usage is refused.",
            (
                Query(
                    "max by (instance) (spendfuse_gateway_spool_bytes / spendfuse_gateway_spool_limit_bytes)",
                    "{{instance}}",
                ),
            ),
            unit="percentunit", red=0.5,
        ),
        Panel(
            "Guards that follow over HTTP",
            "Open streams of commands, and those that were cut off in ten minutes because nobody took them.",
            (
                Query("sum by (instance) (spendfuse_gateway_control_streams)", "open, {{instance}}"),
                Query("sum by (instance) (increase(spendfuse_gateway_control_cut_total[10m]))", "cut, {{instance}}"),
            ),
        ),
        Panel(
            "Blind, or not following",
            "1 while a gateway or enforcer does not know what stands; topics that a gateway or the page has lost.",
            (
                Query("max by (job, instance) (spendfuse_gateway_blind)", "blind, {{job}} {{instance}}"),
                Query("max by (job, instance) (spendfuse_enforcer_blind)", "blind, {{job}} {{instance}}"),
                Query("max by (job, instance) (spendfuse_unfollowed_topics)", "not followed, {{job}} {{instance}}"),
            ),
            red=1,
        ),
        Row("The sink"),
        Panel(
            "Behind",
            "For how long a sink has not come to where its topics ended: questions are answered from before.",
            (Query("max by (instance) (spendfuse_sink_behind_seconds)", "{{instance}}"),),
            unit="s", red=1800,
        ),
        Panel(
            "Offsets behind, and lost",
            "What is not in the store yet; and what topics had deleted before it was read, in a day: tables lack it.",
            (
                Query("sum by (instance) (spendfuse_sink_behind_offsets)", "behind, {{instance}}"),
                Query("sum by (topic) (increase(spendfuse_sink_lost_offsets_total[1d]))", "lost, {{topic}}"),
            ),
        ),
        Panel(
            "Rows, by table",
            "Handed to the store a second, repeats included.",
            (Query("sum by (table) (rate(spendfuse_sink_rows_total[5m]))", "{{table}}"),),
            unit="ops",
        ),
        Panel(
            "A batch into the store",
            "How long the store takes for one, and for how long it has taken nothing.",
            (
                Query(quantile(0.5, "spendfuse_sink_write_seconds"), "half within"),
                Query(quantile(0.99, "spendfuse_sink_write_seconds"), "99 % within"),
                Query("max by (instance) (spendfuse_sink_store_away_seconds)", "nothing taken for, {{instance}}"),
            ),
            unit="s", red=300,
        ),
        Row("The live page"),
        Panel(
            "Who looks",
            "Pages that follow changes, and runs whose calls are read for them.",
            (
                Query("sum by (instance) (spendfuse_console_streams)", "pages, {{instance}}"),
                Query("sum by (instance) (spendfuse_console_runs_followed)", "runs, {{instance}}"),
            ),
        ),
        Panel(
            "Passed over",
            "Records that the page could not read, since it was started; others tell of them.",
            (Query("max by (instance) (spendfuse_console_unreadable)", "{{instance}}"),),
        ),
        Row("Systems that are polled"),
        Panel(
            "Since the last answer",
            "For how long no question to a system has come to its end. Its calls are not counted until one does.",
            (Query("max by (source) (spendfuse_poll_since_answer_seconds)", "{{source}}"),),
            unit="s", red=900,
        ),
        Panel(
            "Calls found, by system",
            "Written in ten minutes, beside rows that could not be read and questions that were not answered.",
            (
                Query("sum by (source) (increase(spendfuse_poll_written_total[10m]))", "{{source}}: written"),
                Query("sum by (source) (increase(spendfuse_poll_unreadable_total[10m]))", "{{source}}: unreadable"),
                Query("sum by (source) (increase(spendfuse_poll_failures_total[10m]))", "{{source}}: not answered"),
            ),
        ),
        Row("Keys at providers"),
        Panel(
            "Overdue, by enforcer",
            "For how long a key has not been as the commands want it. Over a minute, spend may go on behind a kill.",
            (Query("max by (enforcer) (spendfuse_enforcer_overdue_seconds)", "{{enforcer}}"),),
            unit="s", red=60,
        ),
        Panel(
            "Attempts that failed, by enforcer",
            "In ten minutes: the provider refused, did not answer, or said yes without effect.",
            (Query("sum by (enforcer) (increase(spendfuse_enforcer_failures_total[10m]))", "{{enforcer}}"),),
        ),
        Row("Reconciliation"),
        Panel(
            "Since the last pass",
            "Since when no pass has come to its end. After two days nobody knows whether somebody spends past us.",
            (Query("max by (instance) (spendfuse_reconcile_since_pass_seconds)", "{{instance}}"),),
            unit="s", red=172_800,
        ),
        Panel(
            "Days not compared, and figures changed late",
            "Days of a provider's report that were not known at the last pass; figures it has changed in a week.",
            (
                Query("max by (console, report) (spendfuse_reconcile_days_not_known)", "{{console}}, {{report}}"),
                Query("sum by (console) (increase(spendfuse_reconcile_corrections_total[7d]))", "changed, {{console}}"),
            ),
        ),
    ),
)  # fmt: skip
