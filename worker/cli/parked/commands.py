"""The commands `dcs-worker parked list`, `show`, `replay`, `drop` and `export`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.common import TYPER_SETTINGS, Json, Rate, add_command, load_configuration, run_and_exit
from worker.cli.parked.selection import (
    ErrorCode,
    Every,
    Ids,
    Name,
    OlderThan,
    Project,
    Reason,
    selection_from_options,
)

File = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Output file, must not exist; - is standard output.")
]
Canary = Annotated[int, typer.Option(min=0, help="Requests to replay first; the others only if all of these succeed.")]
Yes = Annotated[bool, typer.Option("--yes", help="Apply. Without --yes: dry run.")]

parked = typer.Typer(name="parked", **TYPER_SETTINGS)


@parked.callback(epilog="Example: dcs-worker parked list")
def main() -> None:
    """List, show, replay, drop and export parked requests.

    A parked request needs an operator. No command loses a request: it is removed from the queue only after the broker
    confirmed its copy, or after it was written to a file. After an interruption each request is parked, replayed, or
    both, which creates no second task.

    """


def list_(
    *,
    each: Annotated[bool, typer.Option("--each", help="Print one line per request instead of groups.")] = False,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    as_json: Json = False,
) -> None:
    """Count parked requests by reason and error code.

    Example: dcs-worker parked list --older-than 2h
    """
    selection = selection_from_options(None, False, reason, error_code, name, project, older_than)
    settings = load_configuration().settings

    from worker.cli.parked.listing import print_list

    run_and_exit(print_list(settings, selection, each=each, as_json=as_json))


def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A request id, or a message id.")],
    *,
    as_json: Json = False,
) -> None:
    """Print one parked request: identity, timeline, headers and body.

    Exit status: 0 done, 1 no parked request has this id, 69 the broker cannot be reached.

    Example: dcs-worker parked show 4f6f2a34-9f0e-4a52-8a39-6f2c3c1d3f10
    """
    settings = load_configuration().settings

    from worker.cli.parked.listing import print_details

    run_and_exit(print_details(settings, identity, as_json=as_json))


def replay(  # noqa: PLR0913 - each argument is an option of the command
    ids: Ids = None,
    *,
    every: Every = False,
    reason: Reason = None,
    error_code: ErrorCode = None,
    name: Name = None,
    project: Project = None,
    older_than: OlderThan = None,
    canary: Canary = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the outcomes of the canary.")] = 120.0,
    rate: Rate = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replay parked requests: send them to the requests queue again.

    A new retry schedule begins, but the worker looks for the task of each request before it creates one.

    Without --yes: dry run. It looks for the tasks in DCS with the worker's credentials and prints the expected result.

    Exit status: 0 done, 1 the canary did not succeed, 69 the broker cannot be reached, 78 configuration.

    Example: dcs-worker parked replay --reason forbidden --canary 3 --rate 20 --yes
    """
    selection = selection_from_options(ids, every, reason, error_code, name, project, older_than, is_required=True)
    loaded = load_configuration(credentials=not yes)

    from worker.cli.progress import Pacer

    if not yes:
        from worker.cli.parked.preview import preview

        run_and_exit(preview(loaded, selection, Pacer(rate), as_json=as_json))

    from worker.cli.parked.replay import Replay

    run_and_exit(Replay(loaded.settings, Pacer(rate), canary, timeout, as_json).run(selection))


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
    """Delete parked requests, after writing them to a file.

    The file is --to, by default parked-dropped-TIME.jsonl in the current folder. A request is deleted only after it is
    written. In a container without a writable folder: kubectl exec ... -- dcs-worker parked drop ... --to - > FILE

    Exit status: 0 done, 1 the file exists or cannot be written, 69 the broker cannot be reached.

    Example: dcs-worker parked drop --reason invalid_request --older-than 30d --yes
    """
    selection = selection_from_options(ids, every, reason, error_code, name, project, older_than, is_required=True)
    if as_json and file == Path("-"):
        raise typer.BadParameter("--to - and --json cannot be combined: both print on standard output")
    settings = load_configuration().settings

    from worker.cli.parked.export import Drop, RequestFile

    target = RequestFile(file or Path(time.strftime("parked-dropped-%Y%m%dT%H%M%SZ.jsonl", time.gmtime())))
    run_and_exit(Drop(settings, target, as_json).run(selection, yes=yes))


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
    """Write parked requests as JSON Lines; they stay parked.

    Exit status: 0 done, 1 the file exists or cannot be written, 69 the broker cannot be reached.

    Example: dcs-worker parked export --to parked.jsonl
    """
    selection = selection_from_options(ids, False, reason, error_code, name, project, older_than)
    settings = load_configuration().settings

    from worker.cli.parked.export import export_requests

    run_and_exit(export_requests(settings, selection, file))


add_command(parked, list_, "list")
for command in (show, replay, drop, export):
    add_command(parked, command)
