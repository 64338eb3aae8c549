"""Which of the parked requests are meant."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import EXIT_FAILED, EXIT_OK, parse_duration

if TYPE_CHECKING:
    from worker.cli.parked.request import ParkedRequest

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

    def exit_status(self, found: int) -> int:
        """The exit status if it took so many: what is called by its id is expected to be there."""
        return EXIT_OK if found or not self.ids else EXIT_FAILED

    def matches(self, request: "ParkedRequest", now: float) -> bool:
        """Whether `story` is meant, at `now` (epoch seconds)."""
        criteria = (
            (self.reason, request.reason),
            (self.error_code, request.error_code),
            (self.project, request.sender.project_id),
        )
        return (
            (not self.ids or not self.ids.isdisjoint(request.ids))
            and all(expected in (None, actual) for expected, actual in criteria)
            and (self.name is None or fnmatchcase(request.name, self.name))
            and (self.older_than is None or (request.age(now) or 0.0) > self.older_than)
        )


def selection_from_options(
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
        age = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    selection = Selection(frozenset(ids or ()), every, reason, error_code, name, project, age)
    if every and selection != Selection(every=True):
        raise typer.BadParameter("--all goes with no other choice")
    return selection


def require_selection(selection: Selection) -> Selection:
    """`selection`, which must say something: what is not named is not touched. Raises typer.BadParameter."""
    if selection.is_empty:
        raise typer.BadParameter("say which: ids, --reason, --error-code, --name, --project, --older-than or --all")
    return selection
