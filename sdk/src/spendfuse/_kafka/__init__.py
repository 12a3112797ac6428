"""What needs confluent-kafka."""
