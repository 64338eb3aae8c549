"""Selection of the fault that the next call meets: a script's step, a step by chance, an exceeded quota."""

import random
from collections import Counter, deque
from collections.abc import Sequence

from worker.tools.fake_dcs.fault_steps import ORDINARY_STEP, FaultStep, parse_step
from worker.tools.fake_dcs.settings import FakeDcsSettings, Operation, Quota


class FaultSelector:
    """Selects fault steps; counts the position in every script."""

    def __init__(self) -> None:
        self._played: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<FaultSelector played={sum(self._played.values())}>"

    def step_for_create(self, settings: FakeDcsSettings, project: str, name: str) -> FaultStep:
        """The step of the next POST of a task name: from its script, else its project's, else by chance."""
        number = self._next("create", name)
        if name in settings.scripts:
            return _script_step(settings.scripts[name], number)
        if project in settings.project_scripts:
            return _script_step(settings.project_scripts[project], self._next("project", project))
        return _step_by_chance(settings, name, number)

    def step_for_call(self, settings: FakeDcsSettings, operation: Operation) -> FaultStep:
        """The step of the next call that creates nothing; `ok` for a create, whose step depends on its name."""
        if operation == "create" or operation not in settings.operation_scripts:
            return ORDINARY_STEP
        return _script_step(settings.operation_scripts[operation], self._next("operation", operation))

    def restart_changed_scripts(self, old: FakeDcsSettings, new: FakeDcsSettings) -> None:
        """Restart every script whose steps differ between two settings."""
        before, after = _scripts(old), _scripts(new)
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self._played.pop(key, None)

    def _next(self, kind: str, name: str) -> int:
        number = self._played[kind, name]
        self._played[kind, name] += 1
        return number


def _scripts(settings: FakeDcsSettings) -> dict[tuple[str, str], Sequence[str]]:
    return {
        **{("create", name): script for name, script in settings.scripts.items()},
        **{("project", project): script for project, script in settings.project_scripts.items()},
        **{("operation", operation): script for operation, script in settings.operation_scripts.items()},
    }


def _script_step(script: Sequence[str], number: int) -> FaultStep:
    return parse_step(script[min(number, len(script) - 1)])


def _step_by_chance(settings: FakeDcsSettings, name: str, number: int) -> FaultStep:
    if not settings.faults:
        return ORDINARY_STEP
    left = random.Random(f"{settings.seed}/{name}/{number}").random()
    for text, probability in settings.faults.items():
        left -= probability
        if left < 0:
            return parse_step(text)
    return ORDINARY_STEP


class QuotaWindows:
    """Sliding windows of the admitted calls, of all projects together or per project."""

    def __init__(self) -> None:
        self._admit: dict[str, deque[float]] = {}

    def __repr__(self) -> str:
        return f"<QuotaWindows windows={len(self._admit)}>"

    def exceeded_quota(self, settings: FakeDcsSettings, project: str, now: float) -> Quota | None:
        """The quota that a call at `now` (seconds) exceeds; None if it exceeds none, then the call is counted."""
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
    """The gateway's text of a 429, which names the window."""
    window = f"limit:{limit},time:{time} {unit}"
    return f"The throttling threshold has been reached: policy {policy} over ratelimit,{window}"
