"""A refused password is not tried again soon: IAM would lock the account.

IAM locks an account after 3 to 10 wrong passwords, by default 5, within 15 minutes at least (IAM User Guide,
"Login Authentication Policy"). The pauses of 1, 4, 15, 15, ... minutes make three calls in the first 15 minutes, a
fourth if a project was blamed before, and one in 15 minutes ever after.
"""

import hashlib
from collections.abc import Callable
from secrets import token_bytes
from typing import Final

FIRST: Final = 60.0
GROWTH: Final = 4.0
LONGEST: Final = 900.0


class Lockout:
    """Says how long a password must not be tried. `chance` is uniform in [0, 1); times are epoch seconds."""

    def __init__(self, random_unit: Callable[[], float]) -> None:
        self._random_unit = random_unit
        self._salt = token_bytes(16)
        self._refused: set[bytes] = set()
        self.refusals = 0
        self.until = 0.0

    def __repr__(self) -> str:
        return f"<Lockout: {self.refusals} refusals>"

    def rest(self, password: str, now: float) -> float:
        """Seconds until `password` may be tried; 0 for one that was not refused yet."""
        return max(0.0, self.until - now) if self._digest(password) in self._refused else 0.0

    def refused(self, password: str, now: float) -> None:
        """IAM refused `password`."""
        pause = min(LONGEST, FIRST * GROWTH ** min(self.refusals, 8))
        self.until = now + pause * (1.0 + self._random_unit() / 4)
        self.refusals += 1
        self._refused.add(self._digest(password))

    def accepted(self) -> None:
        """IAM accepted a password: whatever was refused before may be tried again."""
        self.refusals = 0
        self.until = 0.0
        self._refused.clear()

    def _digest(self, password: str) -> bytes:
        return hashlib.blake2b(password.encode("utf-8", "surrogatepass"), key=self._salt).digest()
