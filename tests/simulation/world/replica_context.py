"""What a port needs of the replica that it belongs to."""

from typing import Protocol


class ReplicaContext(Protocol):
    """The replica that the ports belong to."""

    name: str
    freezes: int
    publisher_unavailable_until: float

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        ...

    def wall(self) -> float:
        """Epoch seconds by the replica's own clock."""
        ...

    async def point(self, label: str) -> str | None:
        """Pass a point; the fault of this very call that struck."""
        ...

    def log(self, text: str, *arguments: object) -> None:
        """A line of the timeline."""
        ...

    def report_violation(self, text: str) -> None:
        """A law was broken."""
        ...

    def lose_channel(self) -> None:
        """The consuming channel is gone."""
        ...
