"""A tale printed: whose request it is, then line by line what was done for it."""

from collections.abc import Iterator

from schemas.timestamp import to_text
from worker.cli.common import exact_duration, format_table, printable
from worker.cli.parked.timeline import RequestTimeline

_LABEL_WIDTH = 14


def render_timeline(timeline: RequestTimeline) -> str:
    """The tale as a text of several lines."""
    return "\n".join((*_head(timeline), "", render_steps(timeline)))


def render_steps(timeline: RequestTimeline) -> str:
    """What was done, a line each."""
    since = timeline.received_at
    lines = [
        (
            "" if step.at is None else to_text(step.at),
            "" if step.at is None or since is None else exact_duration(step.at - since),
            step.text,
        )
        for step in timeline.steps()
    ]
    return format_table(("when", "after", "what"), lines, right=("after",))


def _head(timeline: RequestTimeline) -> Iterator[str]:
    yield _line("request", timeline.request_id)
    yield _line("project", f"{timeline.project_id or 'not readable'}, region {timeline.region or 'not readable'}")
    yield _line("task", timeline.name)
    yield _line("state", timeline.state)


def _line(name: str, text: str | None) -> str:
    return f"{name:<{_LABEL_WIDTH}}{printable(text or 'not readable')}"
