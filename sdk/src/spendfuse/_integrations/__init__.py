"""What the integrations share; each of them is a module of its own beside this package."""
