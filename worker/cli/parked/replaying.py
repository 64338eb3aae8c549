"""`parked replay`: sent again, a canary first; without --yes only what would become of each."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import typer

from worker.cli.common import FAILED, safe
from worker.cli.parked.canary import Canary, Outcome
from worker.cli.parked.look import Verdict, lookout
from worker.cli.parked.reading import stories
from worker.cli.parked.selection import Selection
from worker.cli.parked.story import Story
from worker.cli.progress import Display, Pace
from worker.config import Loaded
from worker.rabbit.shelf import Shelf

HELD_AT_MOST: Final = 1200.0
"""Seconds after which the rest goes back: brokers take back after 1,800 what a consumer does not answer for."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How careful a replay is; `timeout` in seconds."""

    canary: int
    rate: float | None
    timeout: float
    as_json: bool


async def plan(shelf: Shelf, loaded: Loaded, selection: Selection, terms: Terms) -> int:
    """Print what would become of each request; the exit status. Raises ParkedError."""
    found = await stories(shelf, loaded.settings, selection)
    await shelf.release()  # looking takes its time
    seen: list[tuple[Story, Verdict]] = []
    width = max((len(safe(story.id)) for story in found), default=0)

    def tell(story: Story, verdict: Verdict) -> None:
        seen.append((story, verdict))
        if not terms.as_json:
            typer.echo(f"{safe(story.id):<{width}}  {safe(verdict.text)}")

    async with lookout(loaded, Pace(terms.rate)) as out:
        await out.look(found, tell)
    if terms.as_json:
        typer.echo(json.dumps({"replayed": False, "requests": [_judged(*one) for one in seen]}, indent=2))
    elif not found:
        typer.echo("No parked request is like that.")
    else:
        typer.echo(f"\n{_counts([verdict for _, verdict in seen])} Nothing was sent: --yes sends them again.")
    return selection.status(len(found))


def _judged(story: Story, verdict: Verdict) -> dict[str, object]:
    return {**story.summary(), "verdict": verdict.kind, "text": verdict.text, "tasks": list(verdict.tasks)}


_SUMMARY: Final = {
    "create": "{:,} would create a task.",
    "exists": "{:,} exist already.",
    "unclear": "{:,} cannot be told.",
    "expire": "{:,} would expire.",
    "invalid": "{:,} are no requests.",
}


def _counts(verdicts: Sequence[Verdict]) -> str:
    counts = ((text, sum(verdict.kind == kind for verdict in verdicts)) for kind, text in _SUMMARY.items())
    return " ".join(text.format(count) for text, count in counts if count)


class Replay:
    """Sends requests again, and says how far it came, whatever ends it."""

    def __init__(self, shelf: Shelf, loaded: Loaded, terms: Terms) -> None:
        self._shelf = shelf
        self._settings = loaded.settings
        self._terms = terms
        self._pace = Pace(terms.rate)
        self._begun = time.monotonic()
        self._replayed = 0
        self._outcomes: list[Outcome] = []

    def __repr__(self) -> str:
        return f"<Replay: {self._replayed} sent again>"

    async def run(self, selection: Selection) -> int:
        """Send what `selection` takes; the exit status. Raises ParkedError and FollowError."""
        found = await stories(self._shelf, self._settings, selection)
        good = [story for story in found if story.order is not None]
        is_done = False
        try:
            is_done = await self._send(good)
            await self._shelf.release()
        finally:
            self._tell(len(found), len(found) - len(good), is_done=is_done)
        return selection.status(len(found)) if is_done else FAILED

    async def _send(self, good: Sequence[Story]) -> bool:
        first, rest = good[: self._terms.canary], good[self._terms.canary :]
        if first and not await self._try(first):
            return False
        if not rest:
            return True
        with Display("sent again", len(good)) as display:
            display.starts_at(len(first))
            for story in rest:
                if time.monotonic() - self._begun > HELD_AT_MOST:
                    typer.echo("The rest was held for long enough, and is parked again: repeat the command.", err=True)
                    return False
                await self._move(story)
                display.to(self._replayed)
        return True

    async def _try(self, first: Sequence[Story]) -> bool:
        """Whether everything that was tried first ended well."""
        async with self._shelf.following(self._settings.event_exchange) as events:
            canary = Canary(first)
            for story in first:
                await self._move(story)
            typer.echo(f"Waiting for the outcome of {len(first):,} sent first ...", err=True)
            self._outcomes = await canary.outcomes(events, self._terms.timeout)
        for outcome in self._outcomes:
            typer.echo(f"{safe(outcome.id)}  {safe(outcome.text)}", err=True)
        return all(outcome.is_good for outcome in self._outcomes)

    async def _move(self, story: Story) -> None:
        await self._pace.turn()
        await self._shelf.move(story.parked, story.again(self._settings.delivery_limit, time.time()))
        self._replayed += 1

    def _tell(self, found: int, bad: int, *, is_done: bool) -> None:
        left = found - self._replayed
        if self._terms.as_json:
            canary = [{"id": one.id, "succeeded": one.is_good, "text": one.text} for one in self._outcomes]
            told = {"replayed": self._replayed, "left": left, "no_requests": bad, "canary": canary, "done": is_done}
            typer.echo(json.dumps(told, indent=2))
            return
        if not found:
            typer.echo("No parked request is like that.")
            return
        if self._outcomes and not all(outcome.is_good for outcome in self._outcomes):
            typer.echo("What was sent first did not succeed, so nothing else was sent.")
        text = f"{self._replayed:,} sent again, {left:,} left as they were"
        typer.echo(f"{text}, of which {bad:,} are no requests." if bad else f"{text}.")
