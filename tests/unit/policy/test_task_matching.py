"""Recognising a request's task among others: by marker, else by name, time and networks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dcs import TaskDetail, TaskRow
from schemas.request import Request, Task
from schemas.timestamp import from_text
from tests.malformed_bodies import TASK
from worker.policy import task_matching
from worker.policy.call_result import SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import migration
from worker.policy.task_matching import Match

MARKER = "#rq-ca978112ca1bbdca"
MARKED = migration(
    Request(request_id="a", project_id="p", task=Task(**TASK)), default_region="cn-north-4", with_marker=True
)
PLAIN = replace(MARKED, marker=None)
SINCE = 1_790_000_000.0

ROW = TaskRow(task_id="t", task_name=TASK["name"], description=f"x {MARKER}", migration_type="online_migration")
DETAIL = TaskDetail(
    task_id="t",
    tenant_vpc_id=TASK["vpc_id"],
    tenant_subnet_id=TASK["subnet_id"],
    tenant_security_group_id=TASK["security_group_id"],
)


@pytest.mark.parametrize("marker", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"task_name": "dcs-migration-thrc-2"},
        {"task_name": "DCS-migration-thrc"},
        {"task_name": None},
        {"migration_type": "backupfile_import"},
        {"migration_type": "something new"},
    ],
)
def test_a_task_of_another_name_or_kind_is_not_ours(changes: dict[str, str | None], marker: bool) -> None:
    """The list call filters by part of a name and mixes kinds: both must match exactly, marker or not."""
    row = ROW.model_copy(update=changes)
    assert task_matching.row(MARKED if marker else PLAIN, row, SINCE) is Match.NO


@pytest.mark.parametrize(
    ("description", "match"),
    [
        (MARKER, Match.YES),
        (f"x {MARKER}", Match.YES),
        (f"x {MARKER} \n", Match.YES),
        (f"{MARKER} x", Match.NO),
        (f"x {MARKER}.", Match.NO),
        (f"{MARKER} #rq-0000000000000000", Match.NO),
        (MARKER[:-1], Match.NO),
        (MARKER.upper(), Match.NO),
        ("", Match.NO),
        (None, Match.ASK),
    ],
)
def test_the_marker_is_the_last_word(description: str | None, match: Match) -> None:
    """Only the end of the description tells; a list that leaves it out makes us ask for the detail."""
    assert MARKED.marker == MARKER
    assert task_matching.row(MARKED, ROW.model_copy(update={"description": description}), SINCE) is match
    expected = Match.NO if match is Match.ASK else match
    assert task_matching.detail(MARKED, DETAIL.model_copy(update={"description": description})) is expected


def test_the_kind_may_be_missing() -> None:
    """An older list does not say of what kind a task is."""
    assert task_matching.row(MARKED, ROW.model_copy(update={"migration_type": None}), SINCE) is Match.YES


@pytest.mark.parametrize("created_at", ["2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon", None])
def test_with_a_marker_the_date_does_not_matter(created_at: str | None) -> None:
    """The marker is proof enough, whatever the service's clock says."""
    assert task_matching.row(MARKED, ROW.model_copy(update={"created_at": created_at}), SINCE) is Match.YES


@pytest.mark.parametrize(
    ("created_at", "match"),
    [
        ("2026-09-21T14:13:20Z", Match.ASK),  # the moment itself
        ("2026-09-21T14:12:20.000Z", Match.ASK),  # a minute before: the service's clock may be behind
        ("2026-09-21T14:12:19.999Z", Match.NO),
        ("2026-09-21T22:12:20+08:00", Match.ASK),
        ("2026-09-21T22:12:19+08:00", Match.NO),
        ("2026/09/21 00:12:20", Match.ASK),  # may be local time anywhere
        ("2026/09/21 00:12:19", Match.NO),
        ("202609210013", Match.ASK),
        ("202609210012", Match.NO),
        ("2019/10/22 14:44:30", Match.NO),
        ("2999-01-01T00:00:00Z", Match.ASK),
        ("soon", Match.ASK),
        ("", Match.ASK),
        (None, Match.ASK),
    ],
)
def test_without_a_marker_what_is_older_than_the_request_is_not_ours(created_at: str | None, match: Match) -> None:
    """Only a task that was surely created before the request was known is ruled out by its date."""
    assert from_text("2026-09-21T14:13:20Z") == SINCE
    assert task_matching.row(PLAIN, ROW.model_copy(update={"created_at": created_at}), SINCE) is match


@pytest.mark.parametrize("field", ["tenant_vpc_id", "tenant_subnet_id", "tenant_security_group_id"])
@pytest.mark.parametrize("value", ["another", None])
def test_without_a_marker_all_three_networks_must_match(field: str, value: str | None) -> None:
    """The detail call decides by VPC, subnet and security group together."""
    assert task_matching.detail(PLAIN, DETAIL) is Match.YES
    assert task_matching.detail(PLAIN, DETAIL.model_copy(update={field: value})) is Match.NO


def test_with_a_marker_the_networks_do_not_matter() -> None:
    """A task on the right networks is not ours without the marker."""
    assert task_matching.detail(MARKED, DETAIL) is Match.NO


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("2021-06-16T06:12:55.508Z", 1623823975.508),
        (" 2021-06-16T06:12:55.508Z ", 1623823975.508),
        ("2021-06-16T06:12:55+0800", 1623795175.0),
        ("2019/10/22 14:44:30", 1571755470.0 + 14 * 3600),
        ("2019-10-22 14:44:30", 1571755470.0 + 14 * 3600),
        ("201910221444", 1571755440.0 + 14 * 3600),
        ("2019-10-22", 1571702400.0 + 14 * 3600),
        ("22 October 2019", None),
        ("201910221444300", None),
        ("2019-13-22 14:44:30", None),
    ],
)
def test_a_date_is_read_as_late_as_it_can_mean(text: str | None, seconds: float | None) -> None:
    """Every form that the service is known to use is read; without an offset it may be any zone's."""
    assert task_matching.latest(text) == seconds


@given(st.text(max_size=30) | st.text("0123456789-/:TZ +.", max_size=30))
def test_no_date_does_harm(text: str) -> None:
    """Whatever the service calls a date, reading it does not fail."""
    moment = task_matching.latest(text)
    assert moment is None or moment > -1e12


@pytest.mark.parametrize(
    ("task_ids", "lookup_result"),
    [
        ([], TaskNotFound()),
        (["a"], TaskFound("a", "r")),
        (["a", "a"], TaskFound("a", "r")),
        (["b", "a", "b"], SeveralTasks(("a", "b"))),
    ],
)
def test_what_was_found_is_counted_once(task_ids: list[str], lookup_result: object) -> None:
    """None, one or several different tasks; a row that two pages show is one."""
    assert task_matching.lookup_result(task_ids, "r") == lookup_result
