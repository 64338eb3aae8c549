"""Hold of a region's endpoint or of credentials: calls stop because they are refused for every request.

A circuit breaker whose failure is a refusal (https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker):
the first refusal is checked by a probe at once; refused as well, calls are held until a later probe is accepted.
"""

from collections.abc import Collection
from typing import Final

from worker.policy import error_table
from worker.policy.call_result import CallError, CallResult, Condition, ErrorScope

UNCLEAR_SECONDS: Final = 10.0
"""Until the next probe after one that was neither accepted nor refused, as in an outage."""


class ProbeTimes:
    """Times of single probes: truncated exponential back-off with jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, first: float, growth: float, longest: float, jitter: float) -> None:
        self.at = 0.0
        self._first, self._growth, self._longest, self._jitter = first, growth, longest, jitter
        self._interval = first

    def schedule(self, now: float, random_unit: float) -> None:
        """Set the time of the next probe."""
        self.at = now + self._interval * (1.0 + self._jitter * random_unit)
        self._interval = min(self._longest, self._interval * self._growth)

    def reset(self, at: float = 0.0) -> None:
        """Begin with the shortest interval again, after a probe at that time."""
        self.at, self._interval = at, self._first


REGION_TIMES: Final = (2.0, 1.5, 6.4, 0.25)
"""From 2 to 8 s: probes of two replicas make one call per second together at most."""
CREDENTIALS_TIMES: Final = (60.0, 2.0, 300.0, 0.0)
"""60, 120, 240, then 300 s: more than five refusals in a short time lock a key. No jitter: requests wait as long."""
PROJECT_TIMES: Final = (10.0, 2.0, 300.0, 0.0)


class Probed:
    """What is probed while it blocks calls. `kind`: what it blocks; `scopes`: what a failed probe concerns."""

    def __init__(self, kind: str, scopes: Collection[ErrorScope], times: tuple[float, float, float, float]) -> None:
        self.kind = kind
        self.scopes = scopes
        self.probes = ProbeTimes(*times)
        self.is_probing = False
        """A probe is under way: its result is worth waiting for."""
        self.since = 0.0
        """When it began to block."""
        self.error: CallError | None = None
        """The last refusal or failure."""

    @property
    def message(self) -> str:
        """The last refusal or failure, in the words of the service."""
        return self.error.description if self.error is not None else ""


class Hold(Probed):
    """One hold. Times are seconds of any one clock."""

    def __init__(self, kind: str, scopes: Collection[ErrorScope], times: tuple[float, float, float, float]) -> None:
        super().__init__(kind, scopes, times)
        self.is_blocking = False
        """No call may begin: the first probe is under way, or a probe was refused."""
        self.is_held = False
        """A probe was refused, and none was accepted since."""

    def __repr__(self) -> str:
        return f"<Hold {self.kind}: {'held' if self.is_held else 'checking' if self.is_blocking else 'free'}>"

    def refused(self, error: CallError, now: float) -> bool:
        """A call was refused. True: probes have to be sent from now on, the first one at `probes.at`."""
        if self.is_blocking:
            return False
        # Only a locked key is not checked at once: another wait that is asked for may be this request's alone.
        lock_seconds = error_table.asked_wait(error) if error.condition is Condition.KEY_LOCKED else 0.0
        self.is_blocking, self.is_held = True, lock_seconds > 0.0
        self.since, self.error = now, error
        self.probes.reset(now + lock_seconds)
        return True

    def probe_ended(self, result: CallResult, now: float) -> str:
        """A probe was refused, accepted, or said nothing, which is no refusal. Returns the event, if it is one."""
        is_refused = error_table.is_probe_refused(result, self.scopes)
        was_held, self.is_probing = self.is_held, False
        self.is_blocking = self.is_held = is_refused is not False
        if is_refused and isinstance(result, CallError):
            self.error = result
            self.probes.at = max(self.probes.at, now + error_table.asked_wait(result))
        elif is_refused is None:
            self.probes.at = min(self.probes.at, now + UNCLEAR_SECONDS)
        if self.is_held:
            return "probed" if was_held else "held"
        return "released" if was_held else ""
