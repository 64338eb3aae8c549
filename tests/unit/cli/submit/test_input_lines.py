"""Requests read from JSON Lines, CSV and JSON, their validation, and the ledger that stores them."""

import io
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from schemas import identity
from schemas.request import Task
from worker.cli.submit import Format
from worker.cli.submit.input_lines import (
    COLUMNS,
    MAX_REPORTED,
    InputLine,
    InputValidator,
    Ledger,
    SubmittedRequest,
    read,
)

LIMIT = 1000


def _read(content: bytes, form: Format) -> list[InputLine]:
    return list(read(io.BytesIO(content), form, LIMIT))


def _fields(line: InputLine) -> object:
    return json.loads(line.body)


def test_json_lines_are_numbered_and_blank_lines_skipped() -> None:
    """Every kind of line end is accepted, and a byte order mark is removed."""
    lines = _read(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"a":2}\n{"a":3}', "jsonl")

    assert lines == [InputLine(1, b'{"a":1}'), InputLine(4, b'{"a":2}'), InputLine(5, b'{"a":3}')]


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, LIMIT + 2, 10 * LIMIT])
def test_too_long_line_is_cut_above_the_limit(length: int) -> None:
    """The next line is read correctly."""
    first, second = _read(b"x" * length + b"\n{}\n", "jsonl")

    assert (first.number, len(first.body), second) == (1, min(length, LIMIT + 2), InputLine(2, b"{}"))


def test_json_file_is_one_request() -> None:
    """It can have several lines."""
    assert _read(b'{\n "a": 1\n}\n', "json") == [InputLine(1, b'{\n "a": 1\n}')]


def test_csv_row_is_one_request() -> None:
    """Columns in any order, empty cells left out, line breaks in quoted cells; the number is that of the first line."""
    table = 'name,project_id,description,vpc_id\r\n"a, b",p,"two\nlines",v\r\n\r\nc,p,,\r\nd,p\r\n'
    one, two, three = _read(b"\xef\xbb\xbf" + table.encode(), "csv")

    assert [one.number, two.number, three.number] == [2, 5, 6]
    assert _fields(one) == {"project_id": "p", "task": {"name": "a, b", "description": "two\nlines", "vpc_id": "v"}}
    assert _fields(two) == {"project_id": "p", "task": {"name": "c"}}
    assert _fields(three) == {"project_id": "p", "task": {"name": "d"}}


def test_csv_has_a_column_for_every_field() -> None:
    """A row can have all that a message can have."""
    table = ",".join(COLUMNS) + "\n" + ",".join(f"<{name}>" for name in COLUMNS) + "\n"
    (line,) = _read(table.encode(), "csv")

    fields = json.loads(line.body)
    task = fields.pop("task")
    assert {**fields, **task} == {name: f"<{name}>" for name in COLUMNS}


@pytest.mark.parametrize(
    ("table", "number", "problem"),
    [
        (b"", 1, "header line missing; allowed columns: "),
        (b"name,vpc\n", 1, "unknown column 'vpc'"),
        (b"name,name\n", 1, "duplicate column name"),
        (b"name\na\nb,c\n", 3, "2 values for 1 columns"),
        (b'name\n"a" b\n', 2, "not valid CSV"),
        (b"name\n" + b"x" * 2000 + b"\n", 1, "a line is longer than 1,000 characters"),
        (b"name\n\xff\n", 1, "not valid UTF-8"),
    ],
)
def test_invalid_csv_has_a_problem_with_line_number(table: bytes, number: int, problem: str) -> None:
    """The number is exact if the position is known."""
    error = _read(table, "csv")[-1]

    assert (error.number, error.body) == (number, b"")
    assert problem in error.problem


TASK = {"name": "one", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """An empty ledger."""
    with closing(Ledger()) as empty:
        yield empty


def _body(**changes: Any) -> bytes:
    return json.dumps({"project_id": "p", "task": TASK} | changes).encode()


def _validated(ledger: Ledger, *bodies: bytes) -> InputValidator:
    validator = InputValidator(ledger, 1000, "cn-north-4")
    validator.add_lines(InputLine(number, body) for number, body in enumerate(bodies, 1))
    return validator


def test_missing_id_is_derived_as_a_worker_derives_it(ledger: Ledger) -> None:
    """The sent request has it, so that its event is recognised; a given id stays."""
    _validated(ledger, _body(), _body(request_id="mine"))

    derived, given = (json.loads(body)["request_id"] for body in ledger.bodies())
    assert derived == identity.request_id("p", "cn-north-4", Task.model_validate(TASK))
    assert given == "mine"


def test_lines_with_equal_content_are_one_request(ledger: Ledger) -> None:
    """Order of fields and white space do not matter; repeats are counted and not sent."""
    text = json.dumps({"task": dict(reversed(TASK.items())), "project_id": "p"}, indent=1).encode()
    validator = _validated(ledger, _body(), text, _body(project_id="q"), _body())

    assert (ledger.requests, ledger.repeats, validator.invalid_lines) == (2, 2, 0)
    assert len(list(ledger.bodies())) == 2


def test_one_id_for_two_tasks_is_an_error(ledger: Ledger) -> None:
    """The error names the first line with the id; another project has its own ids."""
    other = TASK | {"name": "two"}
    validator = _validated(
        ledger, _body(request_id="r"), _body(request_id="r", task=other), _body(request_id="r", project_id="q")
    )

    assert [str(error) for error in validator.errors] == [
        "line 2: request_id already used in line 1 for a different task"
    ]
    assert ledger.requests == 2


def test_errors_name_line_and_field_up_to_a_maximum(ledger: Ledger) -> None:
    """Every violation of a line is an error, but only the first errors are kept."""
    validator = _validated(ledger, _body(), b"{", _body(project_id=7, more=1), _body(task=TASK | {"name": ""}))
    assert [(error.line, error.field) for error in validator.errors] == [
        (2, "body"),
        (3, "project_id"),
        (3, "more"),
        (4, "task.name"),
    ]
    many = _validated(ledger, *[b"{"] * 100)
    assert (many.invalid_lines, len(many.errors)) == (100, MAX_REPORTED)


def test_request_too_large_with_its_derived_id_is_an_error(ledger: Ledger) -> None:
    """A worker would reject it."""
    body = _body(task=TASK | {"description": "x" * (1000 - len(_body()) - 20)})
    assert len(body) < 1000

    validator = _validated(ledger, body)

    assert "more than the 1,000 allowed" in validator.errors[0].message


def test_ledger_counts_the_first_outcome_of_its_requests(ledger: Ledger) -> None:
    """Outcomes of other requests are ignored; requests without success are listed."""
    _validated(ledger, *(_body(request_id=f"r{number}") for number in range(4)))
    ledger.record_outcome("p", "r0", "created", None, succeeded=True)
    ledger.record_outcome("p", "r1", "rejected", "no", succeeded=False)
    ledger.record_outcome("p", "r1", "created", None, succeeded=True)
    ledger.record_outcome("q", "r2", "created", None, succeeded=True)
    ledger.record_outcome("p", "r3", "created", None, succeeded=True)

    assert (ledger.answered, ledger.outcomes()) == (3, {"created": 2, "rejected": 1})
    assert list(ledger.unsuccessful()) == [
        SubmittedRequest(2, "r1", "rejected", "no"),
        SubmittedRequest(3, "r2", None, None),
    ]


def test_bodies_are_in_the_order_of_the_file(ledger: Ledger) -> None:
    """Over several pages, none missing."""
    _validated(ledger, *(_body(request_id=f"r{number}") for number in range(1201)))

    assert [json.loads(body)["request_id"] for body in ledger.bodies()] == [f"r{number}" for number in range(1201)]
