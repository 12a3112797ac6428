"""What a guard needs to know of a run."""

from typing import Protocol


class RunLike(Protocol):
    """What a guard needs to know of a run. `Run` has it; your own object may have it too.

    An `attribution` beside these is optional: a mapping from `owner`, `project` and the other fields of `run_started`
    to their values, with `tags` a mapping of its own. Commands to scopes are compared with it.
    """

    @property
    def tenant_id(self) -> str:
        """Whose run it is."""

    @property
    def run_id(self) -> str:
        """Its id."""

    @property
    def session_id(self) -> str | None:
        """The dialogue it belongs to."""

    @property
    def root_run_id(self) -> str | None:
        """The run its tree grew from; None for that run itself."""

    @property
    def workflow(self) -> str | None:
        """What it is an execution of."""
