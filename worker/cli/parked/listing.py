"""`parked list`: number and age of parked requests by reason and error code, or one line per request."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer

from schemas.timestamp import to_text
from worker.cli.common import EXIT_OK, format_table, short_duration
from worker.cli.parked.parked_queue import NO_MATCH, read
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.config import Settings
from worker.rabbit.tools.parked_queue import ParkedQueue

GroupKey = tuple[str, str]
"""Reason and error code."""


@dataclass(slots=True)
class ParkedGroup:
    """Number and times (epoch seconds) of the parked requests with one reason and error code."""

    requests: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, parked_at: float | None) -> None:
        """Count one request."""
        self.requests += 1
        if parked_at is not None:
            self.oldest = parked_at if self.oldest is None else min(self.oldest, parked_at)
            self.newest = parked_at if self.newest is None else max(self.newest, parked_at)


async def print_list(queue: ParkedQueue, settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, or one line per request; the exit status. Raises BrokerError."""
    groups: dict[GroupKey, ParkedGroup] = {}
    listed: list[ParkedRequest] = []

    def add(request: ParkedRequest) -> None:
        groups.setdefault((request.reason, request.error_code or ""), ParkedGroup()).add(request.parked_at)
        if each:
            listed.append(request)

    await read(queue, settings, selection, add)
    listed.sort(key=lambda request: request.parked_at or 0.0)
    total = sum(group.requests for group in groups.values())
    if as_json:
        typer.echo(json.dumps(_as_json(total, groups, listed if each else None), indent=2))
    elif not total:
        typer.echo("No request is parked." if selection.is_empty else NO_MATCH)
    else:
        typer.echo(_each(listed) if each else _grouped(groups))
    return EXIT_OK


def _as_json(total: int, groups: Mapping[GroupKey, ParkedGroup], listed: list[ParkedRequest] | None) -> dict[str, Any]:
    return {
        "requests": total,
        "groups": [
            {
                "reason": reason,
                "error_code": code or None,
                "requests": group.requests,
                "oldest": None if group.oldest is None else to_text(group.oldest),
                "newest": None if group.newest is None else to_text(group.newest),
            }
            for (reason, code), group in _sorted(groups)
        ],
        **({} if listed is None else {"each": [request.summary() for request in listed]}),
    }


def _sorted(groups: Mapping[GroupKey, ParkedGroup]) -> list[tuple[GroupKey, ParkedGroup]]:
    return sorted(groups.items(), key=lambda item: -item[1].requests)


def _grouped(groups: Mapping[GroupKey, ParkedGroup]) -> str:
    now = time.time()
    titles = ("reason", "error code", "requests", "oldest", "newest")
    lines = [
        (reason, code or "-", f"{group.requests:,}", _ago(group.oldest, now), _ago(group.newest, now))
        for (reason, code), group in _sorted(groups)
    ]
    return format_table(titles, lines, right=("requests", "oldest", "newest"))


def _each(listed: list[ParkedRequest]) -> str:
    now = time.time()
    lines = [
        (
            request.id,
            request.name or "-",
            request.sender.project_id or "-",
            request.reason,
            _ago(request.parked_at, now),
        )
        for request in listed
    ]
    return format_table(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else short_duration(now - moment)
