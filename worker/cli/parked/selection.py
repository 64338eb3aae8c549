"""Options that select parked requests, and the filter made of them."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from worker.cli.common import EXIT_FAILED, EXIT_OK, parse_duration

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Request ids, as `parked list --each` prints them.", show_default=False),
]
Every = Annotated[bool, typer.Option("--all", help="All parked requests.")]
_ByWorker = Literal["exhausted", "forbidden", "not_found", "poison", "rejected", "unauthenticated", "unresolved"]
_ByBroker = Literal["by the broker: delivery_limit", "by the broker: expired", "by the broker: maxlen"]
ParkedReason = Literal["invalid_request", _ByWorker, _ByBroker, "by the broker: rejected", "by the broker: unknown"]
Reason = Annotated[
    ParkedReason | None, typer.Option(metavar="REASON", help="Only with this reason, as `parked list` prints it.")
]
ErrorCode = Annotated[str | None, typer.Option(help="Only with this code of the last error.")]
Name = Annotated[str | None, typer.Option(metavar="PATTERN", help="Only with a task name like 'batch-7-*'.")]
Project = Annotated[str | None, typer.Option(metavar="ID", help="Only of this project.")]
OlderThan = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Only parked longer ago than this: 90s, 15m, 2h, 3d.")
]


@dataclass(frozen=True, slots=True)
class Selection:
    """Filter of parked requests: one of the ids, if any, and every other condition must match."""

    ids: frozenset[str] = frozenset()
    every: bool = False
    reason: str | None = None
    error_code: str | None = None
    name: str | None = None
    project: str | None = None
    older_than: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no option was given, not even --all."""
        return self == Selection()

    def exit_status(self, found: int) -> int:
        """1 if ids were given and no request was found, else 0."""
        return EXIT_OK if found or not self.ids else EXIT_FAILED


def selection_from_options(
    ids: list[str] | None,
    every: bool = False,
    reason: str | None = None,
    error_code: str | None = None,
    name: str | None = None,
    project: str | None = None,
    older_than: str | None = None,
    *,
    is_required: bool = False,
) -> Selection:
    """The selection of a command's options. Raises typer.BadParameter.

    `is_required`: it must not be empty, for a command changes only what was named.
    """
    try:
        age = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    selection = Selection(frozenset(ids or ()), every, reason, error_code, name, project, age)
    if every and selection != Selection(every=True):
        raise typer.BadParameter("--all cannot be combined with other filters")
    if is_required and selection.is_empty:
        options = "ids, --reason, --error-code, --name, --project, --older-than or --all"
        raise typer.BadParameter(f"choose requests: {options}")
    return selection
