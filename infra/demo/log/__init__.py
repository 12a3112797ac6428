"""How the demo's usage log is made of real runs; nothing of it runs with the demo."""
