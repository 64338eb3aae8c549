"""A tale printed: whose request it is, then line by line what was done for it."""

from collections.abc import Iterator

from schemas.timestamp import to_text
from worker.cli.common import exact, rows, safe
from worker.cli.explaining.tale import Tale

_LEFT = 14


def told(tale: Tale) -> str:
    """The tale as a text of several lines."""
    return "\n".join((*_head(tale), "", timeline(tale)))


def timeline(tale: Tale) -> str:
    """What was done, a line each."""
    since = tale.received_at
    lines = [
        (
            "" if step.at is None else to_text(step.at),
            "" if step.at is None or since is None else exact(step.at - since),
            step.text,
        )
        for step in tale.steps()
    ]
    return rows(("when", "after", "what"), lines, right=("after",))


def _head(tale: Tale) -> Iterator[str]:
    yield _line("request", tale.request_id)
    yield _line("project", f"{tale.project_id or 'not readable'}, region {tale.region or 'not readable'}")
    yield _line("task", tale.name)
    yield _line("state", tale.state)


def _line(name: str, text: str | None) -> str:
    return f"{name:<{_LEFT}}{safe(text or 'not readable')}"
