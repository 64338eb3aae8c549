"""Output of `submit`, as text or JSON: errors of the input, what was sent, and outcomes."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Final

import typer

from worker.cli.common import format_table, printable
from worker.cli.submit.input_lines import MAX_REPORTED, InputValidator
from worker.cli.submit.submission import Ledger, Submission, SubmittedRequest

NO_OUTCOME: Final = "pending"


def print_errors(validator: InputValidator, *, as_json: bool) -> None:
    """Print the invalid lines."""
    if as_json:
        typer.echo(json.dumps({**validator.as_json(), "sent": 0}, indent=2))
        return
    for error in validator.errors:
        typer.echo(printable(error), err=True)
    if len(validator.errors) == MAX_REPORTED:
        typer.echo("... and possibly more.", err=True)
    typer.echo(f"{validator.invalid_lines:,} of {validator.lines:,} lines are invalid. Nothing was sent.", err=True)


def print_valid(validator: InputValidator, *, as_json: bool) -> None:
    """Print the result of --check for valid input."""
    if as_json:
        typer.echo(json.dumps({**validator.as_json(), "sent": 0}, indent=2))
    else:
        typer.echo(f"{_input_summary(validator)}, all valid. Nothing was sent (--check).")


def print_sent(validator: InputValidator, submission: Submission, *, waits_for_outcomes: bool, as_json: bool) -> None:
    """Print what was sent, and with --wait the outcomes."""
    if as_json:
        typer.echo(json.dumps(_as_json(validator, submission, waits_for_outcomes=waits_for_outcomes), indent=2))
        return
    typer.echo(
        f"{_input_summary(validator)}: {submission.confirmed:,} sent and confirmed in {submission.seconds:.1f} s."
    )
    if waits_for_outcomes:
        typer.echo("")
        typer.echo(format_table(("outcome", "requests"), _counts(validator.ledger), right=("requests",)))
        _print_unsuccessful(validator.ledger)


def print_interrupted(validator: InputValidator, submission: Submission, *, as_json: bool) -> None:
    """Print how many requests were confirmed before an error or a signal."""
    if as_json:
        typer.echo(json.dumps(_as_json(validator, submission, waits_for_outcomes=False), indent=2))
    unconfirmed = validator.ledger.requests - submission.confirmed
    if unconfirmed:
        advice = "Submit the same input again: no task is created twice."
        typer.echo(
            f"{submission.confirmed:,} of {validator.ledger.requests:,} requests are confirmed. {advice}", err=True
        )
    else:
        typer.echo(f"All {validator.ledger.requests:,} requests are sent and confirmed.", err=True)


def _as_json(validator: InputValidator, submission: Submission, *, waits_for_outcomes: bool) -> dict[str, object]:
    content = {**validator.as_json(), "sent": submission.confirmed, "seconds": round(submission.seconds, 3)}
    if waits_for_outcomes:
        content["outcomes"] = validator.ledger.outcomes()
        content["unsuccessful"] = [asdict(entry) for entry in validator.ledger.unsuccessful()]
    return content


def _input_summary(validator: InputValidator) -> str:
    ledger = validator.ledger
    requests = "1 request" if ledger.requests == 1 else f"{ledger.requests:,} requests"
    if not ledger.repeats:
        return requests
    repeat = "1 line repeats an earlier one" if ledger.repeats == 1 else f"{ledger.repeats:,} lines repeat earlier ones"
    return f"{validator.lines:,} lines, of which {repeat}: {requests}"


def _counts(ledger: Ledger) -> Iterator[tuple[str, str]]:
    for outcome, count in ledger.outcomes().items():
        yield outcome, f"{count:,}"
    if ledger.answered < ledger.requests:
        yield NO_OUTCOME, f"{ledger.requests - ledger.answered:,}"


def _print_unsuccessful(ledger: Ledger) -> None:
    """Print the first requests without success."""
    unsuccessful = list(islice(ledger.unsuccessful(), MAX_REPORTED + 1))
    if unsuccessful:
        typer.echo("")
    for entry in unsuccessful[:MAX_REPORTED]:
        typer.echo(printable(_request_line(entry)))
    if len(unsuccessful) > MAX_REPORTED:
        typer.echo("... and more: --json lists all.")


def _request_line(entry: SubmittedRequest) -> str:
    outcome = entry.outcome or NO_OUTCOME
    return f"line {entry.line:,}  {entry.request_id}  {outcome}" + (f": {entry.said}" if entry.said else "")
