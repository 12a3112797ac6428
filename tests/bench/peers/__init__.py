"""The same small job in two other frameworks. These files run in a virtual environment of their own."""
