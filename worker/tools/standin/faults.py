"""Which step the next call meets: scripts first, then chance."""

import random
from collections import Counter
from collections.abc import Sequence

from worker.tools.standin.settings import Operation, StandInSettings
from worker.tools.standin.steps import ORDINARY, Step, read_step


class Faults:
    """Counts how far every script has been played."""

    def __init__(self) -> None:
        self._played: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Faults played={sum(self._played.values())}>"

    def of_create(self, settings: StandInSettings, project: str, name: str) -> Step:
        """The step for the next POST of this task name: its script, else its project's, else by chance."""
        nth = self._next("create", name)
        if name in settings.scripts:
            return _step(settings.scripts[name], nth)
        if project in settings.project_scripts:
            return _step(settings.project_scripts[project], self._next("project", project))
        return _drawn(settings, name, nth)

    def of_call(self, settings: StandInSettings, operation: Operation) -> Step:
        """The step for the next call that creates nothing; `ok` for a create, whose step is chosen by its name."""
        if operation == "create" or operation not in settings.operation_scripts:
            return ORDINARY
        return _step(settings.operation_scripts[operation], self._next("operation", operation))

    def forget_changed(self, old: StandInSettings, new: StandInSettings) -> None:
        """Start every script at its beginning whose steps differ between two settings."""
        before, after = _scripts(old), _scripts(new)
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self._played.pop(key, None)

    def _next(self, kind: str, name: str) -> int:
        nth = self._played[kind, name]
        self._played[kind, name] += 1
        return nth


def _scripts(settings: StandInSettings) -> dict[tuple[str, str], Sequence[str]]:
    return {
        **{("create", name): script for name, script in settings.scripts.items()},
        **{("project", project): script for project, script in settings.project_scripts.items()},
        **{("operation", operation): script for operation, script in settings.operation_scripts.items()},
    }


def _step(script: Sequence[str], nth: int) -> Step:
    return read_step(script[min(nth, len(script) - 1)])


def _drawn(settings: StandInSettings, name: str, nth: int) -> Step:
    if not settings.faults:
        return ORDINARY
    left = random.Random(f"{settings.seed}/{name}/{nth}").random()
    for text, chance in settings.faults.items():
        left -= chance
        if left < 0:
            return read_step(text)
    return ORDINARY
