"""Validation of what was read, and the ledger that stores it with its outcomes."""

import io
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, get_args

import pytest

from schemas import identity
from schemas.event import MigrationFailed, MigrationSucceeded, Reason, Resolution
from schemas.request import Task
from worker.cli.submit.input_lines import InputLine, read
from worker.cli.submit.ledger import MAX_REPORTED, InputValidator, Ledger, SubmittedRequest

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

    derived, given = (json.loads(body) for body in ledger.bodies())
    assert derived["request_id"] == identity.request_id("p", "cn-north-4", Task.model_validate(TASK))
    assert derived["region"] == "cn-north-4"  # without it, a worker elsewhere would take the id for another content
    assert given == {"request_id": "mine", "project_id": "p", "task": TASK}


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


def test_errors_of_a_table_name_its_columns(ledger: Ledger) -> None:
    """And those of a JSON array the element and the path."""
    table = b"project_id,name,vpc_id,subnet_id,security_group_id\na/b,n\x07n,v,s,\n"
    elements = json.dumps([{"project_id": "p", "task": TASK | {"vpc_id": ""}}]).encode()
    validator = InputValidator(ledger, 1000, "cn-north-4")
    validator.add_lines(read(io.BytesIO(table), "csv", 1000))
    validator.add_lines(read(io.BytesIO(elements), "json", 1000))
    assert [error.field for error in validator.errors] == [
        *("project_id", "name", "security_group_id"),
        "[0].task.vpc_id",
    ]


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


def test_errors_in_an_array_name_the_element(ledger: Ledger) -> None:
    """Several can be in one line."""
    validator = InputValidator(ledger, 1000, "cn-north-4")
    same = json.dumps({"project_id": "p", "request_id": "r", "task": TASK | {"name": "two"}}).encode()
    array = b",".join((_body(request_id="r"), _body(project_id=7), b"[]", same))
    validator.add_lines(read(io.BytesIO(b"[" + array + b"]"), "json", 1000))

    assert [(error.line, error.field) for error in validator.errors] == [
        (1, "[1].project_id"),
        (1, "[2].body"),
        (1, "[3].request_id"),
    ]
    assert ledger.requests == 1


def test_errors_in_a_table_name_the_column(ledger: Ledger) -> None:
    """A table has no `task`."""
    validator = InputValidator(ledger, 1000, "cn-north-4")
    validator.add_lines(read(io.BytesIO(b"project_id,name,vpc_id,subnet_id\n1 2,n,v,s\n"), "csv", 1000))

    assert [error.field for error in validator.errors] == ["project_id", "security_group_id"]


def test_request_too_large_with_its_derived_id_is_an_error(ledger: Ledger) -> None:
    """A worker would reject it."""
    body = _body(task=TASK | {"description": "x" * (1000 - len(_body()) - 20)})
    assert len(body) < 1000

    validator = _validated(ledger, body)

    assert "more than the 1,000 allowed" in validator.errors[0].message


def _event(project_id: str, request_id: str, outcome: str) -> MigrationSucceeded | MigrationFailed:
    """What a worker says about a request; a resolution or a reason."""
    common: dict[str, Any] = {
        "request_id": request_id,
        "project_id": project_id,
        "region": "cn-north-4",
        "name": "one",
        "received_at": "2026-11-23T09:00:00.000Z",
        "completed_at": "2026-11-23T09:00:01.000Z",
        "attempts": 1,
    }
    if outcome in get_args(Resolution):
        return MigrationSucceeded(instance_id=f"i-{request_id}", resolution=outcome, **common)
    return MigrationFailed(reason=Reason(outcome), message="no", **common)


def test_ledger_counts_the_first_outcome_of_its_requests(ledger: Ledger) -> None:
    """Outcomes of other requests are ignored; requests without success are listed."""
    _validated(ledger, *(_body(request_id=f"r{number}") for number in range(4)))
    for project, request, outcome in [
        ("p", "r0", "created"),
        ("p", "r1", "rejected"),
        ("p", "r1", "created"),
        ("q", "r2", "created"),
        ("p", "r3", "adopted"),
    ]:
        ledger.record_outcome(_event(project, request, outcome))

    assert (ledger.answered, ledger.outcomes()) == (3, {"rejected": 1, "created": 1, "adopted": 1})
    assert list(ledger.results()) == [
        SubmittedRequest(1, "r0", "created", None, "i-r0", "created", None),
        SubmittedRequest(2, "r1", "rejected", "no", None, None, "rejected"),
        SubmittedRequest(3, "r2", None, None, None, None, None),
        SubmittedRequest(4, "r3", "adopted", None, "i-r3", "adopted", None),
    ]
    assert [result.request_id for result in ledger.unsuccessful()] == ["r1", "r2"]


def test_bodies_are_in_the_order_of_the_file(ledger: Ledger) -> None:
    """Over several pages, none missing."""
    _validated(ledger, *(_body(request_id=f"r{number}") for number in range(1201)))

    assert [json.loads(body)["request_id"] for body in ledger.bodies()] == [f"r{number}" for number in range(1201)]
