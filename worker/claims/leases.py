"""The claims of this process, and whether they are still surely ours. No I/O."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from worker.claims.scripts import FORGOTTEN, OURS, PROCESS_DIGITS
from worker.policy.migration_request import Key, MigrationRequest

MAX_RENEWAL_SECONDS: Final = 3600.0
"""How long a claim is renewed: longer than a broker leaves a delivery unacknowledged (30 min by default,
https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout), so no delivery is worked on under an older one."""


@dataclass(slots=True, eq=False)
class Lease:
    """A claim that was asked for. Times are those of the monotonic clock."""

    migration: MigrationRequest
    token: bytes
    since: float
    until: float | None = None
    """Until when it is surely ours; None if it was not granted, or may have been another's in between."""


class Leases:
    """What this process claims. `seconds` is how long a claim holds unless it is renewed.

    A claim counts as ours for five sixths of that, from before the command was sent that granted or renewed it:
    neither a slow answer, nor a frozen process, nor clocks of different speed can make it look longer than it is.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._sure_seconds = seconds * 5 / 6
        self._clock = clock
        self._process = secrets.token_hex(PROCESS_DIGITS // 2)
        self._numbers = count(1)
        self._leases: dict[Key, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, migration: MigrationRequest) -> Lease | None:
        """The lease on the request, granted or only asked for."""
        return self._leases.get(migration.key)

    def open(self, migration: MigrationRequest) -> Lease:
        """A new lease on the request, with a new token: a late command cannot touch the next lease."""
        token = f"{self._process}-{next(self._numbers)}".encode()
        lease = self._leases[migration.key] = Lease(migration, token, self._clock())
        return lease

    def close(self, lease: Lease) -> None:
        """The lease is over."""
        if self._leases.get(lease.migration.key) is lease:
            del self._leases[lease.migration.key]

    def granted(self, lease: Lease, asked_at: float) -> None:
        """The lease was granted by a command that was sent at `asked_at` or later."""
        lease.until = asked_at + self._sure_seconds

    def renewed(self, lease: Lease, asked_at: float, found: int) -> None:
        """The lease was renewed by such a command, which found the claim OURS, FORGOTTEN or REGAINED.

        A claim that was made again keeps others away, but it is surely ours only if it had not run out meanwhile:
        else another replica may have had the request, and been forgotten too.
        """
        is_unbroken = found == OURS or (found == FORGOTTEN and self.is_held(lease.migration))
        if lease.until is not None:
            lease.until = asked_at + self._sure_seconds if is_unbroken else None

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the request is surely ours."""
        lease = self._leases.get(migration.key)
        return lease is not None and lease.until is not None and self._clock() < lease.until

    def to_renew(self) -> list[Lease]:
        """Every lease, without those that no delivery can be worked on under any more: they end here."""
        now = self._clock()
        for lease in [lease for lease in self._leases.values() if now - lease.since > MAX_RENEWAL_SECONDS]:
            self.close(lease)
        return list(self._leases.values())
