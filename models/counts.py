"""What the engine has done, in figures."""


class Counts:
    """What the engine has done, for metrics and scorecards."""

    __slots__ = ("backfilled", "duplicates", "events", "refused", "too_late")

    def __init__(self) -> None:
        self.events = 0
        self.duplicates = 0
        self.too_late = 0
        """More than a day late, and counted nowhere."""
        self.backfilled = 0
        """Sent again after that, and booked."""
        self.refused = 0
