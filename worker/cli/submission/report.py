"""What `submit` says at the end, for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Final

import typer

from worker.cli.common import rows, safe
from worker.cli.submission.intake import NAMED_AT_MOST, Intake
from worker.cli.submission.ledger import Entry, Ledger
from worker.cli.submission.sending import Submission

UNANSWERED: Final = "no outcome yet"


def flaws(intake: Intake, *, as_json: bool) -> None:
    """What is wrong with the lines."""
    if as_json:
        typer.echo(json.dumps({**intake.as_json(), "sent": 0}, indent=2))
        return
    for flaw in intake.flaws:
        typer.echo(safe(flaw), err=True)
    if len(intake.flaws) == NAMED_AT_MOST:
        typer.echo("... and perhaps more.", err=True)
    typer.echo(f"{intake.faulty:,} of {intake.lines:,} lines are no requests: nothing was sent.", err=True)


def checked(intake: Intake, *, as_json: bool) -> None:
    """All is well, and nothing was sent because nothing was to be."""
    if as_json:
        typer.echo(json.dumps({**intake.as_json(), "sent": 0}, indent=2))
    else:
        typer.echo(f"{_lines(intake)}. Nothing was sent.")


def sent(intake: Intake, submission: Submission, *, is_followed: bool, as_json: bool) -> None:
    """What was sent, and what became of it if that was followed."""
    if as_json:
        typer.echo(json.dumps(_as_json(intake, submission, is_followed=is_followed), indent=2))
        return
    typer.echo(f"{_lines(intake)}: {submission.confirmed:,} sent and confirmed in {submission.seconds:.1f} s.")
    if is_followed:
        typer.echo("")
        typer.echo(rows(("outcome", "requests"), _counts(intake.ledger), right=("requests",)))
        _name(intake.ledger)


def broken_off(intake: Intake, submission: Submission, *, as_json: bool) -> None:
    """How far it came."""
    if as_json:
        typer.echo(json.dumps(_as_json(intake, submission, is_followed=False), indent=2))
    left = intake.ledger.requests - submission.confirmed
    if left:
        again = "Submit the same again: nothing is created twice."
        typer.echo(f"{submission.confirmed:,} of {intake.ledger.requests:,} requests are confirmed. {again}", err=True)
    else:
        typer.echo(f"All {intake.ledger.requests:,} requests are sent and confirmed.", err=True)


def _as_json(intake: Intake, submission: Submission, *, is_followed: bool) -> dict[str, object]:
    told = {**intake.as_json(), "sent": submission.confirmed, "seconds": round(submission.seconds, 3)}
    if is_followed:
        told["outcomes"] = intake.ledger.outcomes()
        told["unsuccessful"] = [asdict(entry) for entry in intake.ledger.unsuccessful()]
    return told


def _lines(intake: Intake) -> str:
    ledger = intake.ledger
    requests = "1 request" if ledger.requests == 1 else f"{ledger.requests:,} requests"
    if not ledger.repeats:
        return requests
    repeat = "1 line repeats an earlier one" if ledger.repeats == 1 else f"{ledger.repeats:,} lines repeat earlier ones"
    return f"{intake.lines:,} lines, of which {repeat} and so add nothing: {requests}"


def _counts(ledger: Ledger) -> Iterator[tuple[str, str]]:
    for outcome, count in ledger.outcomes().items():
        yield outcome, f"{count:,}"
    if ledger.answered < ledger.requests:
        yield UNANSWERED, f"{ledger.requests - ledger.answered:,}"


def _name(ledger: Ledger) -> None:
    """The first of those that did not succeed."""
    named = list(islice(ledger.unsuccessful(), NAMED_AT_MOST + 1))
    if named:
        typer.echo("")
    for entry in named[:NAMED_AT_MOST]:
        typer.echo(safe(_line(entry)))
    if len(named) > NAMED_AT_MOST:
        typer.echo("... and more: --json names all of them.")


def _line(entry: Entry) -> str:
    outcome = entry.outcome or UNANSWERED
    return f"line {entry.line:,}  {entry.request_id}  {outcome}" + (f": {entry.said}" if entry.said else "")
