"""Counts of distinct parked requests, in groups by reason and error code, and the tables of the commands."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.timestamp import from_text
from worker.cli.common import format_table, short_duration
from worker.cli.parked.request import ParkedRequest, time_text
from worker.policy.migration_request import Key

DRY_RUN_LINES: Final = 20
"""Requests that a dry run prints one by one."""


@dataclass(slots=True)
class RequestCount:
    """Number of messages and of distinct requests, and when the oldest and the newest was parked; keeps no message."""

    messages: int = 0
    keys: set[Key] = field(default_factory=set)
    oldest: float | None = None
    newest: float | None = None

    def add(self, request: ParkedRequest) -> None:
        """Count one message."""
        self.messages += 1
        self.keys.add(request.key)
        if (moment := request.parked_at) is not None:
            self.oldest = moment if self.oldest is None else min(moment, self.oldest)
            self.newest = moment if self.newest is None else max(moment, self.newest)

    def __len__(self) -> int:
        return len(self.keys)

    def __str__(self) -> str:
        copies = f" ({self.messages:,} messages)" if self.messages > len(self) else ""
        return f"{len(self):,}{copies}"


class ParkedGroups:
    """Counts by reason and error code, and in all."""

    def __init__(self) -> None:
        self.total = RequestCount()
        self._groups: defaultdict[tuple[str, str | None], RequestCount] = defaultdict(RequestCount)

    def add(self, request: ParkedRequest) -> None:
        """Count one message."""
        self.total.add(request)
        self._groups[request.reason, request.error_code].add(request)

    def as_json(self) -> dict[str, Any]:
        """All counts, the largest group first."""
        groups = [
            {
                "reason": reason,
                "error_code": error_code,
                "requests": len(count),
                "messages": count.messages,
                "oldest": time_text(count.oldest),
                "newest": time_text(count.newest),
            }
            for (reason, error_code), count in self._sorted()
        ]
        return {"requests": len(self.total), "messages": self.total.messages, "groups": groups}

    def table(self) -> str:
        """A line per group, and one that says how many messages are copies."""
        now = time.time()
        lines = [
            (reason, error_code or "-", f"{len(count):,}", _ago(count.oldest, now), _ago(count.newest, now))
            for (reason, error_code), count in self._sorted()
        ]
        titles = ("reason", "error code", "requests", "oldest", "newest")
        table = format_table(titles, lines, right=titles[2:])
        if (copies := self.total.messages - len(self.total)) > 0:
            table += f"\n\n{self.total.messages:,} messages, {copies:,} of them copies of another parked message."
        return table

    def _sorted(self) -> list[tuple[tuple[str, str | None], RequestCount]]:
        return sorted(self._groups.items(), key=lambda group: -len(group[1]))


def request_table(summaries: Iterable[Mapping[str, Any]]) -> str:
    """A line per message, of what `ParkedRequest.summary` says."""
    now = time.time()
    lines = [
        (row["id"], row["name"] or "-", row["project_id"] or "-", row["reason"], _ago(from_text(row["parked_at"]), now))
        for row in summaries
    ]
    return format_table(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else short_duration(now - moment)
