"""Requests read from JSON Lines, CSV and JSON."""

import io
import json

import pytest

from worker.cli.submit import Format
from worker.cli.submit.input_lines import (
    COLUMNS,
    InputLine,
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


ARRAY = b"""\xef\xbb\xbf[
  {"a": 1,
   "b": "], ["}, {"a": 2, "a": 3},

  7
]
"""


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_array_has_a_request_per_element(form: Format) -> None:
    """Each is passed on as it is written, a field given twice included, with its line and its index."""
    lines = _read(ARRAY, form)

    assert [(line.number, line.element, line.body) for line in lines] == [
        (2, "[0].", b'{"a": 1,\n   "b": "], ["}'),
        (3, "[1].", b'{"a": 2, "a": 3}'),
        (5, "[2].", b"7"),
    ]
    assert _read(b"\n \n" + ARRAY.removeprefix(b"\xef\xbb\xbf"), form)[2].number == 7
    assert _read(b" [ ] ", form) == []
    assert _read(b"{}\n[]", "jsonl")[1].body == b"[]"  # behind an object it is no array of requests
    large = b"[" + b"x" * LIMIT  # its end is behind the length of one request
    assert [line.problem[:24] for line in _read(large, form)] == ["not a valid JSON array: "]


@pytest.mark.parametrize(
    ("content", "number"),
    [(b'[{"a": 1}\n{"a": 2}]', 2), (b"[1] 2", 1), (b"[1", 1), (b'["\xff"]', 1), (b"[" * 100_000, 1)],
)
def test_invalid_json_array_has_a_problem_with_line_number(content: bytes, number: int) -> None:
    """Nothing of it is read as a request."""
    (line,) = _read(content, "json")

    assert (line.number, line.body) == (number, b"")
    assert line.problem.startswith("not a valid JSON array: ")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("top", ["", "sep={}\r\n", '"sep={}"\r\n\r\n', '\r\n{0}{0}\r\n" "{0}\r\n'])
def test_delimiter_of_csv_is_recognised(delimiter: str, top: str) -> None:
    """Comma, semicolon and tab, below empty rows and the line in which spreadsheets name it; other ones are text."""
    rows = [
        ["project_id", "name", "description", "", " "],
        ["p", "a;b,c\td", "x", "", ""],
        ["q", "n"],
        ["", "", "", "", ""],
    ]
    table = "\r\n".join(delimiter.join(f'"{cell}"' if cell else "" for cell in row) for row in rows)

    lines = _read((top.format(delimiter) + table).encode(), "csv")

    first = top.count("\n") + 2
    assert [line.number for line in lines] == [first, first + 1]
    assert [_fields(line) for line in lines] == [
        {"project_id": "p", "task": {"name": "a;b,c\td", "description": "x"}},
        {"project_id": "q", "task": {"name": "n"}},
    ]


def test_csv_row_is_one_request() -> None:
    """Columns in any order, empty cells left out, line breaks in quoted cells; the number is that of the first line."""
    table = 'name,project_id,description,vpc_id\r\n"a, b",p,"two\nlines",v\r\n\r\nc,p,,\r\nd,p\r\n'
    one, two, three = _read(b"\xef\xbb\xbf" + table.encode(), "csv")

    assert [one.number, two.number, three.number] == [2, 5, 6]
    assert _fields(one) == {"project_id": "p", "task": {"name": "a, b", "description": "two\nlines", "vpc_id": "v"}}
    assert _fields(two) == {"project_id": "p", "task": {"name": "c"}}
    assert _fields(three) == {"project_id": "p", "task": {"name": "d"}}


def test_titles_in_any_case_and_blanks_around_cells() -> None:
    """As people type them; a quoted cell keeps the blanks within it."""
    (line,) = _read('Project_ID, NAME ,description,Vpc_Id\np , "a,  b"," d\u00a0", \u00a0 \n'.encode(), "csv")

    assert _fields(line) == {"project_id": "p", "task": {"name": "a,  b", "description": "d"}}


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
        (b"name,vpcId\n", 1, "unknown column 'vpcId'"),
        (b"name,name\n", 1, "duplicate column name"),
        (b"name\na\nb,c\n", 3, "2 values for 1 columns"),
        (b"name,,\na,,x\n", 2, "3 values for 1 columns"),
        (b"name,,vpc_id\n", 1, "unknown column ''"),
        (b"sep=;\nname;vpc\n", 1, "unknown column 'vpc'"),
        (b'name\n"a" b\n', 2, "not valid CSV"),
        (b"name\n" + b"x" * 2000 + b"\n", 2, "a line is longer than 1,000 characters"),
        (b"Name,NAME\n", 1, "duplicate column name"),
        (b"name\n\xff\n", 1, "not valid UTF-8, here or soon after: save the table as CSV in UTF-8"),
    ],
)
def test_invalid_csv_has_a_problem_with_line_number(table: bytes, number: int, problem: str) -> None:
    """The number is exact if the position is known."""
    error = _read(table, "csv")[-1]

    assert (error.number, error.body) == (number, b"")
    assert problem in error.problem
