"""The commands below `dcs-worker parked`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from worker.cli.common import add_command, load_configuration, run_interruptible
from worker.cli.parked.selection import (
    ErrorCode,
    Every,
    Ids,
    Name,
    OlderThan,
    Project,
    Reason,
    require_selection,
    selection_from_options,
)

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.rabbit.shelf import Shelf

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
File = Annotated[Path | None, typer.Option("--to", metavar="FILE", help="A file that is not there yet.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it only say what would be done.")]

parked = typer.Typer(
    name="parked",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@parked.callback(epilog="Example: dcs-worker parked list")
def main() -> None:
    """Look at parked requests; send them again, export, drop.

    Parked are requests that need a person. Nothing is lost on the way: a request is taken away only after the broker
    confirmed its copy, or a file holds it. Whatever interrupts a command, each request is parked or sent again, at
    worst both, which makes no second task.

    """


def list_(
    *,
    each: Annotated[bool, typer.Option("--each", help="One line per request instead of groups.")] = False,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    as_json: Json = False,
) -> None:
    """Count them by reason and error code.

    Example: dcs-worker parked list --older-than 2h
    """
    selection = selection_from_options(
        None, reason=reason, error_code=error_code, name=name, project=project, older_than=older_than
    )
    settings = load_configuration().settings

    from worker.cli.parked.listing import print_list

    _run_on_parked_queue(settings, lambda queue: print_list(queue, settings, selection, each=each, as_json=as_json))


def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A request id, or a message id.")],
    *,
    as_json: Json = False,
) -> None:
    """Print everything about one of them.

    That is: whose request it is, what was done for it, its headers and its body.

    Exit status: 0 done, 1 no such request is parked, 69 the broker cannot be reached.

    Example: dcs-worker parked show 4f6f2a34-9f0e-4a52-8a39-6f2c3c1d3f10
    """
    settings = load_configuration().settings

    from worker.cli.parked.details import print_details

    _run_on_parked_queue(settings, lambda queue: print_details(queue, settings, identity, as_json=as_json))


def replay(  # noqa: PLR0913 - each argument is an option of the command
    ids: Ids = None,
    *,
    every: Every = False,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    yes: Yes = False,
    canary: Annotated[int, typer.Option(min=0, help="So many first; the rest only if they all succeed.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for what was sent first.")] = 120.0,
    rate: Annotated[float | None, typer.Option(min=0.01, help="At most so many a second.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Send some of them again.

    A new retry schedule begins, but each is looked for before anything is created.

    Without --yes it looks in the cloud, with the worker's credentials, and says what would become of each.

    Exit status: 0 done, 1 what was sent first did not succeed, 69 the broker cannot be reached, 78 configuration.

    Example: dcs-worker parked replay --reason forbidden --canary 3 --rate 20 --yes
    """
    selection = require_selection(
        selection_from_options(
            ids,
            every=every,
            reason=reason,
            error_code=error_code,
            name=name,
            project=project,
            older_than=older_than,
        )
    )
    loaded = load_configuration(credentials=not yes)

    from worker.cli.parked.replay import Replay, ReplayOptions, preview

    options = ReplayOptions(canary, rate, timeout, as_json)
    if yes:
        _run_on_parked_queue(loaded.settings, lambda queue: Replay(queue, loaded, options).run(selection))
    _run_on_parked_queue(loaded.settings, lambda queue: preview(queue, loaded, selection, options))


def drop(  # noqa: PLR0913 - each argument is an option of the command
    ids: Ids = None,
    *,
    every: Every = False,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    yes: Yes = False,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Take some of them away for good.

    They are written to a file before: --to, else one here that is named after the time.

    Exit status: 0 done, 1 the file is there already, 69 the broker cannot be reached.

    Example: dcs-worker parked drop --reason invalid_request --older-than 30d --yes
    """
    selection = require_selection(
        selection_from_options(
            ids,
            every=every,
            reason=reason,
            error_code=error_code,
            name=name,
            project=project,
            older_than=older_than,
        )
    )
    settings = load_configuration().settings

    from worker.cli.parked.export import drop_requests

    _run_on_parked_queue(
        settings, lambda queue: drop_requests(queue, settings, selection, file, yes=yes, as_json=as_json)
    )


def export(
    ids: Ids = None,
    *,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    file: File = None,
) -> None:
    """Write them as JSON Lines; they stay parked.

    Exit status: 0 done, 1 the file is there already, 69 the broker cannot be reached.

    Example: dcs-worker parked export --to parked.jsonl
    """
    selection = selection_from_options(
        ids, reason=reason, error_code=error_code, name=name, project=project, older_than=older_than
    )
    settings = load_configuration().settings

    from worker.cli.parked.export import export_requests

    _run_on_parked_queue(settings, lambda queue: export_requests(queue, settings, selection, file))


def _run_on_parked_queue(settings: "Settings", work: "Callable[[Shelf], Awaitable[int]]") -> NoReturn:
    from worker.cli.parked.parked_queue import with_parked_queue

    raise typer.Exit(run_interruptible(with_parked_queue(settings, work)))


add_command(parked, list_, "list")
for command in (show, replay, drop, export):
    add_command(parked, command)
