"""What is asked of the tables, as views that every store has under the same names: plain SQL that all of them read.

`{name}` stands for a table of `tables.py` or a view above, with what a store has to say to find it. The founders'
questions over them are in `docs/questions.md`.
"""

from typing import Final

from streams.sinks.tables import DIMENSIONS

_OF_START: Final = ", ".join(f"max({name}) as {name}" for name in DIMENSIONS)
_OWN_OR_RUNS: Final = ", ".join(
    f"coalesce(nullif(e.{name}, ''), nullif(r.{name}, ''), nullif(s.{name}, ''), 'unattributed') as {name}"
    for name in DIMENSIONS
)
_CALLS: Final = "e.type in ('llm_call', 'tool_call') and not e.is_too_late"
_PERIOD: Final = "case c.period when 'day' then d.day when 'week' then d.week else d.month end"

VIEWS: Final[dict[str, str]] = {
    # Model and tool calls with whose they are: what a call does not say of itself is its run's.
    "calls": f"""
        select e.tenant_id as tenant_id, e.day as day, e.week as week, e.month as month, e.counted_ms as ts_ms,
            e.event_id as event_id, e.type as type, e.run_id as run_id, e.session_id as session_id, {_OWN_OR_RUNS},
            e.model as model, e.billed_by as billed_by, e.billed_model as billed_model,
            coalesce(e.provider_key, s.provider_key) as provider_key, e.tool as tool, e.status as status,
            e.attempt as attempt, e.input_tokens as input_tokens, e.cache_read_tokens as cache_read_tokens,
            e.cache_hit as cache_hit, e.output_tokens as output_tokens, e.latency_ms as latency_ms,
            e.cost_nanousd as cost_nanousd, e.price_source as price_source
        from {{events}} e
        left join {{runs}} r on r.tenant_id = e.tenant_id and r.run_id = e.run_id
        left join (
            select tenant_id, run_id, max(provider_key) as provider_key, {_OF_START}
            from {{events}} where type = 'run_started' group by tenant_id, run_id
        ) s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
        where {_CALLS}""",
    "spend_by_day": f"""
        select tenant_id, day, week, month, cast(sum(cost_nanousd) as bigint) as cost_nanousd,
            cast(sum(case when type = 'llm_call' then 1 else 0 end) as bigint) as calls,
            cast(sum(case when type = 'tool_call' then 1 else 0 end) as bigint) as tool_calls,
            cast(sum(case when price_source = 'unpriced' then 1 else 0 end) as bigint) as unpriced_calls
        from {{events}} e
        where {_CALLS}
        group by tenant_id, day, week, month""",
    # The same from the hours that the worker has added up: it goes back further than events do, and costs less.
    "spend_by_day_rolled_up": """
        select tenant_id, day, week, month, cast(sum(cost_nanousd) as bigint) as cost_nanousd,
            cast(sum(calls) as bigint) as calls, cast(sum(tool_calls) as bigint) as tool_calls,
            cast(sum(unpriced_calls) as bigint) as unpriced_calls
        from {rollups}
        group by tenant_id, day, week, month""",
    # A name that an hour's later rollup does not hold any more has gone to `other`: only shares of the latest count.
    "breakdowns": """
        select s.tenant_id as tenant_id, s.workflow as workflow, s.day as day, s.week as week, s.month as month,
            s.hour_start_ms as hour_start_ms, s.dimension as dimension, s.name as name,
            s.cost_nanousd as cost_nanousd, s.calls as calls, s.input_tokens as input_tokens,
            s.output_tokens as output_tokens
        from {rollup_shares} s
        join {rollups} r on r.tenant_id = s.tenant_id and r.workflow = s.workflow
            and r.hour_start_ms = s.hour_start_ms and r.booked_hour_ms = s.booked_hour_ms
            and r.kafka_offset = s.kafka_offset""",
    "incidents": """
        select a.tenant_id as tenant_id, a.incident_id as incident_id, min(a.rule) as rule,
            min(a.detector) as detector, min(a.mode) as mode,
            min(case when a.state = 'open' then a.day end) as day,
            min(case when a.state = 'open' then a.week end) as week,
            min(case when a.state = 'open' then a.ts_ms end) as opened_ms, max(a.ts_ms) as last_ms,
            min(case a.severity when 'critical' then '1 critical' when 'error' then '2 error'
                when 'warning' then '3 warning' else '4 info' end) as worst,
            max(case when a.state = 'resolved' then 1 else 0 end) as is_resolved, count(*) as messages,
            min(v.verdict) as verdict, min(v.who) as judged_by
        from {alerts} a
        left join {verdicts} v on v.tenant_id = a.tenant_id and v.incident_id = a.incident_id
        group by a.tenant_id, a.incident_id""",
    "contracts_in_force": """
        select c.tenant_id as tenant_id, c.period as period, c.starts as starts, c.ends as ends,
            c.value_nanousd as value_nanousd
        from {contracts} c
        join (
            select policy_ms, version from {policies} order by policy_ms desc, ingested_ms desc, version desc limit 1
        ) p on p.policy_ms = c.policy_ms and p.version = c.version""",
    # What a tenant costs beside what it pays, in each period of the contract that held then; periods are cut in UTC.
    "margin": f"""
        select c.tenant_id as tenant_id, c.period as period, {_PERIOD} as starts_on, c.value_nanousd as value_nanousd,
            cast(sum(d.cost_nanousd) as bigint) as cost_nanousd,
            c.value_nanousd - cast(sum(d.cost_nanousd) as bigint) as margin_nanousd
        from {{contracts_in_force}} c
        join {{spend_by_day}} d on d.tenant_id = c.tenant_id
        where d.day >= c.starts and d.day < c.ends
        group by c.tenant_id, c.period, c.starts, c.value_nanousd, {_PERIOD}""",
    # Both sides of a day, for each provider, key and model; a figure that a side does not have is null.
    "reconciliation_by_key": """
        select day, source, provider_key, model, cast(sum(our_calls) as bigint) as our_calls,
            cast(sum(our_input) as bigint) as our_input_tokens, cast(sum(input) as bigint) as input_tokens,
            cast(sum(our_cached) as bigint) as our_cached_tokens, cast(sum(cached) as bigint) as cached_tokens,
            cast(sum(our_output) as bigint) as our_output_tokens, cast(sum(output) as bigint) as output_tokens,
            cast(sum(our_cost) as bigint) as our_cost_nanousd, cast(sum(cost) as bigint) as cost_nanousd
        from (
            select day, coalesce(billed_by, '') as source, coalesce(provider_key, '') as provider_key,
                coalesce(billed_model, '') as model, 1 as our_calls, input_tokens as our_input, null as input,
                case when cache_hit then 0 else cache_read_tokens end as our_cached, null as cached,
                output_tokens as our_output, null as output, cost_nanousd as our_cost, null as cost
            from {calls} where type = 'llm_call'
            union all
            select day, source, coalesce(provider_key, '') as provider_key, coalesce(billed_model, item, '') as model,
                null as our_calls, null as our_input, input_tokens as input, null as our_cached,
                cached_tokens as cached, null as our_output, output_tokens as output, null as our_cost,
                cost_nanousd as cost
            from {provider_usage}
        ) both_sides
        group by day, source, provider_key, model""",
    "reconciliation": """
        select day, source, model, cast(sum(our_calls) as bigint) as our_calls,
            cast(sum(our_input_tokens) as bigint) as our_input_tokens,
            cast(sum(input_tokens) as bigint) as input_tokens,
            cast(sum(our_cached_tokens) as bigint) as our_cached_tokens,
            cast(sum(cached_tokens) as bigint) as cached_tokens,
            cast(sum(our_output_tokens) as bigint) as our_output_tokens,
            cast(sum(output_tokens) as bigint) as output_tokens,
            cast(sum(our_cost_nanousd) as bigint) as our_cost_nanousd,
            cast(sum(cost_nanousd) as bigint) as cost_nanousd
        from {reconciliation_by_key}
        group by day, source, model""",
}
"""In the order in which they are made."""

OF_A_TENANT: Final = (
    "events", "runs", "rollups", "alerts", "commands", "verdicts", "calls", "spend_by_day", "spend_by_day_rolled_up",
    "breakdowns", "incidents", "contracts_in_force", "margin",
)  # fmt: skip
"""What a tenant may see of itself. What providers say is of all tenants together."""
