"""LiteLLM: what it says of a call, read in one place for its callbacks here and for its feed at the gateway."""
