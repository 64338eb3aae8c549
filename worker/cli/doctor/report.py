"""Output of findings as a table or as JSON, and the redaction of secrets in them."""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import typer

from worker.cli.common import (
    EXIT_CONFIGURATION,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    output_width,
    print_json,
    wrap,
)
from worker.config import Settings, secret_texts, wants_colours
from worker.policy.diagnostics import Check, CheckResult, FailureKind, most_urgent_failure
from worker.policy.redaction import Redactor

RESULT_COLOURS: Final = {
    CheckResult.OK: "green",
    CheckResult.WARNING: "yellow",
    CheckResult.FAILED: "red",
    CheckResult.NOT_CHECKED: "bright_black",
}
_RESULT_WIDTH: Final = max(len(result.value) for result in CheckResult)
_MAX_TITLE_WIDTH: Final = 42
_COMMAND: Final = re.compile(r"`[^`]+`|\b(?:rabbitmq|redis-cli|dcs-worker)[\w-]* .*")
"""A command in a remedy, which stays on one line, so that it can be copied whole."""


def print_checks(
    found: Sequence[Check], settings: Settings | None, *, as_json: bool, other_failure: int = EXIT_FAILED
) -> int:
    """Print all findings, as JSON or as a table (on a terminal in colours); the exit status.

    `other_failure`: the exit status if neither the configuration is invalid nor a service cannot be reached.
    """
    checks = redact_checks(found, settings)
    statuses = {None: EXIT_OK, FailureKind.CONFIGURATION: EXIT_CONFIGURATION, FailureKind.UNREACHABLE: EXIT_UNAVAILABLE}
    status = statuses.get(most_urgent_failure(checks), other_failure)
    if as_json:
        print_json({"status": status, "checks": [_as_json(check) for check in checks]})
        return status
    has_colours = wants_colours(sys.stdout)
    for check, (lead, rest) in zip(checks, format_rows(checks, output_width()), strict=True):
        typer.echo((typer.style(lead, fg=RESULT_COLOURS[check.result]) if has_colours else lead) + rest)
    typer.echo(f"\n{summary(checks)}")
    return status


def _as_json(check: Check) -> dict[str, str | None]:
    return {
        "check": check.name,
        "subject": check.subject or None,
        "result": check.result.value,
        "found": check.found,
        "remedy": check.remedy,
    }


def summary(checks: Sequence[Check]) -> str:
    """Number of checks by result, failures first."""
    counts = Counter(check.result for check in checks)
    order = (CheckResult.FAILED, CheckResult.WARNING, CheckResult.NOT_CHECKED, CheckResult.OK)
    return ", ".join(f"{counts[result]} {result.value}" for result in order if counts[result])


def format_rows(checks: Sequence[Check], width: int) -> Iterator[tuple[str, str]]:
    """Of each check: result and title, and the text after them, on lines of `width` columns if no word is longer.

    A finding that does not fit behind its title is below it, and so is the remedy.
    """
    titles = [f"{check.name} {check.subject}".strip() for check in checks]
    widest = min(_MAX_TITLE_WIDTH, max(map(len, titles), default=0))
    indent = " " * (_RESULT_WIDTH + 2)
    for check, title in zip(checks, titles, strict=True):
        word = check.result.value.upper() if check.result is CheckResult.FAILED else check.result.value
        lead, lines = f"{word:<{_RESULT_WIDTH}}  {title:<{widest}}  {check.found}", []
        is_fitting = len(lead) <= width
        if not is_fitting:
            lines = wrap(check.found, width - len(indent))
        if check.remedy:
            whole = _COMMAND.sub(lambda command: command[0].replace(" ", "\xa0"), check.remedy)
            first, *rest = wrap(whole.replace("\n", " "), width - len(indent) - 3)
            lines += [f"-> {first}", *(f"   {line}" for line in rest)]
        below = "".join(f"\n{indent}{line}" for line in lines).replace("\xa0", " ")
        title_end = _RESULT_WIDTH + 2 + len(title)
        yield lead[:title_end], (lead[title_end:] if is_fitting else "") + below


def redact_checks(checks: Sequence[Check], settings: Settings | None) -> list[Check]:
    """The findings without any secret of `settings` and without passwords in URLs (law no-secrets).

    They may quote what a broker or a service answered, and an answer may repeat a secret.
    """
    redactor = Redactor(secret_texts(dict(settings or {}).values()))
    return [
        replace(
            check,
            found=str(redactor.redact(check.found)),
            subject=str(redactor.redact(check.subject)),
            remedy=None if check.remedy is None else str(redactor.redact(check.remedy)),
        )
        for check in checks
    ]
