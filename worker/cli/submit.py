"""`dcs-worker submit`: requests sent as an upstream service sends them."""

import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import CONFIGURATION, DONE, FAILED, UNAVAILABLE, configured, interruptible
from worker.cli.submission import Format

if TYPE_CHECKING:
    from worker.cli.submission.intake import Flaw, Intake
    from worker.cli.submission.sending import Terms
    from worker.config import Settings

OPTIONS: Final = {
    "request_id": "--request-id",
    "project_id": "--project",
    "region": "--region",
    "not_after": "--not-after",
    "name": "--name",
    "description": "--description",
    "vpc_id": "--vpc",
    "subnet_id": "--subnet",
    "security_group_id": "--security-group",
}
"""By field of the request or its task: the option that gives it."""

STANDARD_INPUT: Final = Path("-")


def submit(  # noqa: PLR0913 - each argument is an option of the command
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="One request per line; - is standard input.")
    ] = None,
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="What FILE is; else the end of its name says, else jsonl.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="One request without a file: its project_id.")] = None,
    name: Annotated[str | None, typer.Option(help="Its task's name.")] = None,
    vpc: Annotated[str | None, typer.Option(help="Its task's vpc_id.")] = None,
    subnet: Annotated[str | None, typer.Option(help="Its task's subnet_id.")] = None,
    security_group: Annotated[str | None, typer.Option(help="Its task's security_group_id.")] = None,
    description: Annotated[str | None, typer.Option(help="Its task's description.")] = None,
    region: Annotated[str | None, typer.Option(help="Its region; else the worker's default.")] = None,
    not_after: Annotated[str | None, typer.Option(help="Nothing is created after this RFC 3339 time.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Its identity; else derived from the content.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check; send nothing, need no broker.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="At most so many a second.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the events until each request has its outcome.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait so, once all is sent.")] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Send one request given by options, or every request of a file.

    All of it is checked before anything is sent. A file has JSON Lines, or columns (.csv), or one JSON object (.json).
    A request without an id gets the one that a worker would derive from its content, so the same line is the same
    request: sending a file again, after a break for example, creates nothing twice.

    Exit status: 0 all sent (with --wait: all succeeded), 1 a line is no request (with --wait: one did not succeed),
    2 wrong usage, 69 the broker cannot be reached or did not take everything, 78 configuration.

    Example: dcs-worker submit requests.csv --rate 50 --wait
    """
    given = {
        "request_id": request_id,
        "project_id": project,
        "region": region,
        "not_after": not_after,
        "name": name,
        "description": description,
        "vpc_id": vpc,
        "subnet_id": subnet,
        "security_group_id": security_group,
    }
    fields = {field: value for field, value in given.items() if value is not None}
    if bool(fields) == (file is not None):
        raise typer.BadParameter("give either a FILE or the options of one request")
    settings = configured().settings

    from worker.cli.submission import report
    from worker.cli.submission.intake import Intake
    from worker.cli.submission.ledger import Ledger
    from worker.cli.submission.sending import Terms

    with closing(Ledger()) as ledger:
        intake = Intake(ledger, settings.max_message_bytes, settings.dcs_region)
        _take(intake, file, form, fields)
        if not intake.lines:
            typer.echo(f"There is no request in {file}.", err=True)
            raise typer.Exit(FAILED)
        if intake.faulty:
            report.flaws(intake, as_json=as_json)
            raise typer.Exit(FAILED)
        if check:
            report.checked(intake, as_json=as_json)
            raise typer.Exit(DONE)
        terms = Terms(rate, timeout if wait else None)
        raise typer.Exit(interruptible(_send(settings, intake, terms, as_json=as_json)))


def _take(intake: "Intake", file: Path | None, form: Format | None, fields: Mapping[str, str]) -> None:
    from worker.cli.submission import lines

    if file is None:
        intake.take([lines.Line(1, lines.body(fields))])
        if intake.flaws:
            raise typer.BadParameter("; ".join(map(_by_option, intake.flaws)))
        return
    try:
        with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else file.open("rb") as stream:
            intake.take(lines.read(stream, form or _format(file), intake.max_bytes))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror or error}", param_hint="FILE") from None


def _format(file: Path) -> Format:
    match file.suffix.lower():
        case ".csv":
            return "csv"
        case ".json":
            return "json"
        case _:
            return "jsonl"


def _by_option(flaw: "Flaw") -> str:
    return f"{OPTIONS.get(flaw.field.removeprefix('task.'), flaw.field)} {flaw.message}"


async def _send(settings: "Settings", intake: "Intake", terms: "Terms", *, as_json: bool) -> int:
    from worker.cli.submission import report
    from worker.cli.submission.sending import Submission
    from worker.config import ConfigurationError
    from worker.rabbit.follower import FollowError
    from worker.rabbit.reach import UnreachableError
    from worker.rabbit.sender import SendError

    submission = Submission(settings, intake.ledger, terms)
    is_followed = terms.patience is not None
    is_done = False
    try:
        await submission.run()
        is_done = True
    except (UnreachableError, SendError, FollowError) as error:
        typer.echo(str(error), err=True)
        return UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        return CONFIGURATION
    finally:
        if not is_done:
            report.broken_off(intake, submission, as_json=as_json)
    report.sent(intake, submission, is_followed=is_followed, as_json=as_json)
    return FAILED if is_followed and any(intake.ledger.unsuccessful()) else DONE
