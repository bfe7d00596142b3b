"""A clock that stands still until a test moves it, forwards or backwards."""

from datetime import UTC, datetime, timedelta, tzinfo


class Clock:
    """Stands in for the system's clock: `shared.protocol.now` is the only place that asks it."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self, zone: tzinfo) -> datetime:
        return self.moment.astimezone(zone)

    def jump(self, seconds: float) -> None:
        """Move by so many seconds; a negative number moves back."""
        self.moment += timedelta(seconds=seconds)
