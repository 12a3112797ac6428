"""A day in minutes: whatever may go wrong at random, beside agents that know nothing of it."""
