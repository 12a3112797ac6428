"""The job in Quix Streams, exactly once.

Arguments: bootstrap, input topic, output topic, group, folder, goal, and after how many events to commit (0: by time,
as the default is).
"""

import sys
from typing import Any

from quixstreams import Application, State
from tally import ALIKE, LIMIT_NANOUSD, Tally


def main() -> None:
    """Process until stopped."""
    bootstrap, source, sink, group, folder = sys.argv[1:6]
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=int(sys.argv[7]),
        state_dir=folder,
        loglevel="ERROR",
    )
    tally = Tally(int(sys.argv[6]))

    def step(event: dict[str, Any], state: State) -> dict[str, Any] | None:
        command = None
        if event["type"] == "llm_call":
            before = state.get("cost", 0)
            after = before + event.get("cost_nanousd", 0)
            state.set("cost", after)
            if before < LIMIT_NANOUSD <= after:
                command = {"action": "pause", "tenant_id": event["tenant_id"]}
        elif event["type"] == "tool_call":
            signature = event["args_hash"]
            last, alike = state.get(event["run_id"], ("", 0))
            alike = alike + 1 if signature == last else 1
            state.set(event["run_id"], (signature, alike))
            if alike == ALIKE:
                command = {"action": "kill", "run_id": event["run_id"]}
        if tally.count(commanded=command is not None):
            app.stop()
        return command

    frame = app.dataframe(app.topic(source, key_deserializer="str", value_deserializer="json"))
    commands = frame.apply(step, stateful=True).filter(lambda command: command is not None)
    commands.to_topic(app.topic(sink, key_serializer="str", value_serializer="json"))
    app.run()  # returns when its last checkpoint is committed
    tally.committed()


if __name__ == "__main__":
    main()
