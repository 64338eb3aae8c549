"""`parked list`: how many wait, for what, and how long."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer

from schemas.timestamp import to_text
from worker.cli.common import DONE, rows, span
from worker.cli.parked.reading import read
from worker.cli.parked.selection import Selection
from worker.cli.parked.story import Story
from worker.config import Settings
from worker.rabbit.shelf import Shelf

Key = tuple[str, str]
"""Reason and error code."""


@dataclass(slots=True)
class Group:
    """Parked requests that have reason and error code in common; times are epoch seconds."""

    requests: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, parked_at: float | None) -> None:
        """One more."""
        self.requests += 1
        if parked_at is not None:
            self.oldest = parked_at if self.oldest is None else min(self.oldest, parked_at)
            self.newest = parked_at if self.newest is None else max(self.newest, parked_at)


async def show(shelf: Shelf, settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, or each request by itself; the exit status. Raises ParkedError."""
    groups: dict[Key, Group] = {}
    listed: list[Story] = []

    def add(story: Story) -> None:
        groups.setdefault((story.reason, story.error_code or ""), Group()).add(story.parked_at)
        if each:
            listed.append(story)

    await read(shelf, settings, selection, add)
    listed.sort(key=lambda story: story.parked_at or 0.0)
    total = sum(group.requests for group in groups.values())
    if as_json:
        typer.echo(json.dumps(_as_json(total, groups, listed if each else None), indent=2))
    elif not total:
        typer.echo("No request is parked." if selection.is_empty else "No parked request is like that.")
    else:
        typer.echo(_each(listed) if each else _grouped(groups))
    return DONE


def _as_json(total: int, groups: Mapping[Key, Group], listed: list[Story] | None) -> dict[str, Any]:
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
        **({} if listed is None else {"each": [story.summary() for story in listed]}),
    }


def _sorted(groups: Mapping[Key, Group]) -> list[tuple[Key, Group]]:
    return sorted(groups.items(), key=lambda item: -item[1].requests)


def _grouped(groups: Mapping[Key, Group]) -> str:
    now = time.time()
    titles = ("reason", "error code", "requests", "oldest", "newest")
    lines = [
        (reason, code or "-", f"{group.requests:,}", _ago(group.oldest, now), _ago(group.newest, now))
        for (reason, code), group in _sorted(groups)
    ]
    return rows(titles, lines, right=("requests", "oldest", "newest"))


def _each(listed: list[Story]) -> str:
    now = time.time()
    lines = [
        (story.id, story.name or "-", story.sender.project_id or "-", story.reason, _ago(story.parked_at, now))
        for story in listed
    ]
    return rows(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else span(now - moment)
