"""Which of the parked requests are meant."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import DONE, FAILED, seconds

if TYPE_CHECKING:
    from worker.cli.parked.story import Story

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Request ids, as `list --each` shows.", show_default=False)
]
Every = Annotated[bool, typer.Option("--all", help="All of them.")]
Reason = Annotated[str | None, typer.Option(help="Those parked for this reason.")]
ErrorCode = Annotated[str | None, typer.Option(help="Those whose last error had this code.")]
Name = Annotated[str | None, typer.Option(metavar="PATTERN", help="Those with such a task name: 'batch-7-*'.")]
Project = Annotated[str | None, typer.Option(metavar="ID", help="Those of this project.")]
OlderThan = Annotated[str | None, typer.Option(metavar="SPAN", help="Those parked longer ago: 90s, 15m, 2h, 3d.")]


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything that is asked for must hold; ids are alternatives."""

    ids: frozenset[str] = frozenset()
    every: bool = False
    reason: str | None = None
    error_code: str | None = None
    name: str | None = None
    project: str | None = None
    older_than: float | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing was asked for, not even everything."""
        return self == Selection()

    def status(self, found: int) -> int:
        """The exit status if it took so many: what is called by its id is expected to be there."""
        return DONE if found or not self.ids else FAILED

    def takes(self, story: "Story", now: float) -> bool:
        """Whether `story` is meant, at `now` (epoch seconds)."""
        wanted = (
            (self.reason, story.reason),
            (self.error_code, story.error_code),
            (self.project, story.sender.project_id),
        )
        return (
            (not self.ids or not self.ids.isdisjoint(story.ids))
            and all(asked in (None, there) for asked, there in wanted)
            and (self.name is None or fnmatchcase(story.name, self.name))
            and (self.older_than is None or (story.age(now) or 0.0) > self.older_than)
        )


def chosen(
    ids: list[str] | None,
    *,
    every: bool = False,
    reason: str | None = None,
    error_code: str | None = None,
    name: str | None = None,
    project: str | None = None,
    older_than: str | None = None,
) -> Selection:
    """The selection that the options of a command make. Raises typer.BadParameter."""
    try:
        age = None if older_than is None else seconds(older_than)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--older-than") from None
    selection = Selection(frozenset(ids or ()), every, reason, error_code, name, project, age)
    if every and selection != Selection(every=True):
        raise typer.BadParameter("--all goes with no other choice")
    return selection


def required(selection: Selection) -> Selection:
    """`selection`, which must say something: what is not named is not touched. Raises typer.BadParameter."""
    if selection.is_empty:
        raise typer.BadParameter("say which: ids, --reason, --error-code, --name, --project, --older-than or --all")
    return selection
