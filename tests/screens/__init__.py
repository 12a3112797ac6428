"""Pictures of the messages that people get, drawn from the very blocks that Slack is sent."""
