"""Mutations of the throttle: circuit breaker, permits, project holds, probes."""

from typing import Any

from worker.pipeline.probes import Probes
from worker.pipeline.throttle import Permit, RegionThrottle, Throttle
from worker.policy.throttle.circuit_breaker import CircuitBreaker
from worker.policy.throttle.project_hold import ProjectHold


class NeverCloseBreaker(CircuitBreaker):
    """Circuit breaker that stays open after a successful probe."""

    def probe_ended(self, *_: Any) -> str:
        """Switch the law off."""
        return ""


class NeverOpenBreaker(CircuitBreaker):
    """Circuit breaker that stays closed after any failure."""

    def failed(self, *_: Any, **__: Any) -> str:
        """Switch the law off."""
        return ""


class LeakPermits(RegionThrottle):
    """Region throttle that counts a returned permit as still in use."""

    def leave(self, permit: Permit) -> None:
        """Switch the law off."""
        super().leave(permit)
        self.in_use += 1


class HoldAllProjects(RegionThrottle):
    """Region throttle that holds all projects when one is refused."""

    def _hold_of(self, project: str) -> ProjectHold:
        known = super()._hold_of(project)
        self.projects.update(dict.fromkeys("pq", known))
        return known


class NeverResumeConsumption(Throttle):
    """Throttle that pauses consumption and never resumes it."""

    def adapt_consumption(self) -> None:
        """Switch the law off."""
        if not self.paused_by:
            super().adapt_consumption()


class NoCredentialsProbe(Probes[Any]):
    """Probes without further probes of refused credentials."""

    async def _probe_while_blocking(self, part: Any, region: Any, project: str) -> None:
        """Switch the law off."""
        if part.kind != "credentials":
            await super()._probe_while_blocking(part, region, project)


class BlameRequestForCredentials(RegionThrottle):
    """Region throttle that never checks whether other requests are refused as well."""

    def _refused(self, *_: Any) -> None:
        """Switch the law off."""
