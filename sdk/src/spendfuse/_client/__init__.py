"""The emitter, the guard and a run, whatever carries their messages."""
