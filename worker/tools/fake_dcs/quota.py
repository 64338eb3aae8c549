"""Quotas as the API gateway keeps them: a sliding window of admitted calls, refusals with a machine-readable text."""

from collections import deque

from worker.tools.fake_dcs.settings import FakeDcsSettings, Quota


class QuotaWindows:
    """The calls admitted within the last window, for everyone together or per project."""

    def __init__(self) -> None:
        self._admit: dict[str, deque[float]] = {}

    def __repr__(self) -> str:
        return f"<Quotas windows={len(self._admit)}>"

    def exceeded_quota(self, settings: FakeDcsSettings, project: str, now: float) -> Quota | None:
        """The quota that this call exceeds, or None, in which case the call is counted. `now` in seconds."""
        own = settings.project_quotas.get(project)
        quota = own or settings.quota
        if quota is None:
            return None
        shared = own is None and quota.per == "everyone"
        window = self._admit.setdefault("" if shared else project, deque())
        while window and window[0] <= now - quota.window:
            window.popleft()
        exceeded = len(window) >= quota.limit
        if not exceeded or quota.counts_refused:
            window.append(now)
        return quota if exceeded else None


def throttled_text(limit: int, time: int, unit: str, policy: str = "user") -> str:
    """The gateway's message of a 429, from which a client can read the window."""
    window = f"limit:{limit},time:{time} {unit}"
    return f"The throttling threshold has been reached: policy {policy} over ratelimit,{window}"
