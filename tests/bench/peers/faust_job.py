"""The job in Faust, at least once, with tables. Arguments: bootstrap, input and output topic, group, folder, goal."""

import sys

import faust
from tally import ALIKE, LIMIT_NANOUSD, Tally

bootstrap, source, sink, group, folder = sys.argv[1:6]
app = faust.App(
    group,
    broker=f"kafka://{bootstrap}",
    store="memory://",
    datadir=folder,
    topic_partitions=1,
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
)
events = app.topic(source, key_serializer="raw", value_serializer="json")
commands = app.topic(sink, key_serializer="raw", value_serializer="json")
costs = app.Table("costs", default=int, partitions=1)
last_calls = app.Table("last-calls", partitions=1)
tally = Tally(int(sys.argv.pop(6)))


@app.agent(events)
async def watch(stream: faust.StreamT) -> None:
    """Process until stopped."""
    async for event in stream:
        command = None
        if event["type"] == "llm_call":
            tenant = event["tenant_id"]
            before = costs[tenant]
            after = before + event.get("cost_nanousd", 0)
            costs[tenant] = after
            if before < LIMIT_NANOUSD <= after:
                command = {"action": "pause", "tenant_id": tenant}
        elif event["type"] == "tool_call":
            run, signature = event["run_id"], event["args_hash"]
            last, alike = last_calls.get(run, ("", 0))
            alike = alike + 1 if signature == last else 1
            last_calls[run] = (signature, alike)
            if alike == ALIKE:
                command = {"action": "kill", "run_id": run}
        if command is not None:
            await commands.send(key=event["tenant_id"].encode(), value=command)
        if tally.count(commanded=command is not None):
            await app.producer.flush()
            await app.consumer.commit()
            tally.committed()


if __name__ == "__main__":
    app.finalize()
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()
