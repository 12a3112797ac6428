"""A gateway in place of Kafka, with nothing but Python's own library."""
