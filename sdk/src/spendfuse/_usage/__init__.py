"""What is reported: events checked, hashed, and on their way."""
