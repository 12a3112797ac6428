"""`python -m tests.bench`: how fast, how soon, how much memory, beside the peers. It reports and asserts nothing."""
