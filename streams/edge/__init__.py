"""What gateway and console share: topics followed in memory, and the keys of those who come in by HTTP."""
