"""Requests out of files of every form: what is read, where it stands, and what is wrong with it."""

import io
import json

import pytest

from worker.cli.submit import Format
from worker.cli.submit.file_formats import COLUMNS, InputLine, read

LIMIT = 1000


def _read(content: bytes, form: Format) -> list[InputLine]:
    return list(read(io.BytesIO(content), form, LIMIT))


def _fields(line: InputLine) -> object:
    return json.loads(line.body)


def test_json_lines_are_numbered_and_blank_ones_left_out() -> None:
    """Any end of line will do, the last may have none, and a byte order mark is no part of the first."""
    lines = _read(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"a":2}\n{"a":3}', "jsonl")

    assert lines == [InputLine(1, b'{"a":1}'), InputLine(4, b'{"a":2}'), InputLine(5, b'{"a":3}')]


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, LIMIT + 2, 10 * LIMIT])
def test_an_endless_line_is_cut_where_it_is_too_long(length: int) -> None:
    """No more of it is kept than shows that it is too long, and the next line is the next."""
    first, second = _read(b"x" * length + b"\n{}\n", "jsonl")

    assert (first.number, len(first.body), second) == (1, min(length, LIMIT + 2), InputLine(2, b"{}"))


def test_a_json_file_is_one_request() -> None:
    """It may stand on as many lines as it likes."""
    assert _read(b'{\n "a": 1\n}\n', "json") == [InputLine(1, b'{\n "a": 1\n}')]


def test_a_table_has_a_request_per_row() -> None:
    """Columns in any order, empty or missing cells left out, quotes and line breaks in cells, rows by first line."""
    table = 'name,project_id,description,vpc_id\r\n"a, b",p,"two\nlines",v\r\n\r\nc,p,,\r\nd,p\r\n'
    one, two, three = _read(b"\xef\xbb\xbf" + table.encode(), "csv")

    assert [one.number, two.number, three.number] == [2, 5, 6]
    assert _fields(one) == {"project_id": "p", "task": {"name": "a, b", "description": "two\nlines", "vpc_id": "v"}}
    assert _fields(two) == {"project_id": "p", "task": {"name": "c"}}
    assert _fields(three) == {"project_id": "p", "task": {"name": "d"}}


def test_every_field_of_a_request_has_a_column() -> None:
    """A row can say all that a message can."""
    table = ",".join(COLUMNS) + "\n" + ",".join(f"<{name}>" for name in COLUMNS) + "\n"
    (line,) = _read(table.encode(), "csv")

    fields = json.loads(line.body)
    task = fields.pop("task")
    assert {**fields, **task} == {name: f"<{name}>" for name in COLUMNS}


@pytest.mark.parametrize(
    ("table", "number", "problem"),
    [
        (b"", 1, "is missing: the first line names the columns"),
        (b"name,vpc\n", 1, "'vpc' is no column"),
        (b"name,name\n", 1, "name is there twice"),
        (b"name\na\nb,c\n", 3, "has 2 cells, but there are 1 columns"),
        (b'name\n"a" b\n', 2, "is no CSV"),
        (b"name\n" + b"x" * 2000 + b"\n", 1, "a line is longer than 1,000 characters"),
        (b"name\n\xff\n", 1, "is no UTF-8"),
    ],
)
def test_what_is_no_table_is_said(table: bytes, number: int, problem: str) -> None:
    """With the line, as far as it is known."""
    error = _read(table, "csv")[-1]

    assert (error.number, error.body) == (number, b"")
    assert problem in error.problem
