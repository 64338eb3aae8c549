"""The tables in docs/errors.md, generated from the code: of errors, and of the named faults of the fake DCS.

`make errors` writes it again.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.generated_part import with_part
from worker.policy import error_table
from worker.policy.call_result import ErrorKind, Evidence
from worker.policy.error_table import Row
from worker.tools.fake_dcs.named_faults import NAMED_FAULTS

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "errors.md"
PART: Final = "errors"
FAULTS_PART: Final = "faults"

PROVES: Final = {
    Evidence.REFUSED: "no task was created",
    Evidence.AMBIGUOUS: "nothing: a task may exist",
    Evidence.NEVER_SENT: "nothing was sent",
}
FOLLOWS: Final = {
    ErrorKind.RETRY: "retried by the schedule, then `exhausted` or `unresolved`",
    ErrorKind.THROTTLED: "waits at no cost",
    ErrorKind.CAPACITY: "waits for the longest delay, then `exhausted`",
    ErrorKind.REJECTED: "`rejected`",
    ErrorKind.UNAUTHENTICATED: "credentials are probed; `unauthenticated` if only this request is refused",
    ErrorKind.FORBIDDEN: "`forbidden`",
    ErrorKind.NOT_FOUND: "`not_found`",
}


def rows() -> Iterator[tuple[str, str, Row]]:
    """Status, codes and row of every answer that the table knows."""
    for status, family, numbers, row in error_table.CODES:
        prefix = {"APIG": "APIG(W)."}.get(family, f"{family}.")
        yield str(status), ", ".join(f"{prefix}{number}" for number in numbers.split()), row
    for (status, condition), row in error_table.BY_CONDITION.items():
        yield str(status), f"text: {condition.value.replace('_', ' ')}", row
    for status, row in error_table.BY_STATUS.items():
        yield str(status), "", row
    yield "other 4xx", "any other code of DCS or its gateway", error_table.OTHER_4XX
    yield "4xx", "none of DCS or its gateway", error_table.FOREIGN_4XX
    yield "other", "", error_table.OTHER


def table() -> str:
    """The table in Markdown."""
    lines = [
        f"| {status} | {codes} | {row.why} | {PROVES[row.evidence]} | {_follows(row)} | {_scope(row)} | {row.source} |"
        for status, codes, row in rows()
    ]
    return "\n".join(
        [
            "| status | code | meaning | what it proves of a create | what follows | concerns | source |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *lines,
        ]
    )


def faults_table() -> str:
    """The table of named faults in Markdown."""
    lines = [
        f"| `{fault.name}` | {'all' if fault.meets_all_calls else 'create'} | {fault.status} | `{fault.body}` "
        f"| {fault.source} |"
        for fault in NAMED_FAULTS
    ]
    return "\n".join(["| name | calls | status | body | source |", "| --- | --- | --- | --- | --- |", *lines])


def rewritten(text: str) -> str:
    """The page `text` with the present tables. Raises ValueError if it has no place for them."""
    return with_part(with_part(text, PART, table(), PAGE), FAULTS_PART, faults_table(), PAGE)


def _follows(row: Row) -> str:
    if row is error_table.BY_STATUS[409]:
        return "looked for at once and after the listing delay; `rejected` if no task exists"
    return f"{FOLLOWS[row.kind]}, parked" if row is error_table.OTHER_4XX else FOLLOWS[row.kind]


def _scope(row: Row) -> str:
    return f"the {row.scope.value}" if row.scope is not None else ""


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is fresh\n")
