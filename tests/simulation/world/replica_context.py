"""Context of a port: the replica that it belongs to, as a protocol, because the replica builds its ports."""

from typing import Protocol

from worker.policy.migration_request import MigrationRequest


class ReplicaContext(Protocol):
    """The replica that a port belongs to."""

    name: str
    freezes: int
    publisher_unavailable_until: float

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        ...

    def epoch_now(self) -> float:
        """Epoch seconds by the clock of the replica."""
        ...

    async def point(self, label: str) -> str | None:
        """Pass a fault point. Returns the fault of this call."""
        ...

    def log(self, text: str, *arguments: object) -> None:
        """Add a line to the timeline."""
        ...

    def report_violation(self, text: str) -> None:
        """Report a broken law."""
        ...

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether the replica certainly has the claim on a request."""
        ...

    def claims_back(self) -> None:
        """The claims can be reached again."""
        ...

    def lose_channel(self) -> None:
        """Close the consuming channel."""
        ...
