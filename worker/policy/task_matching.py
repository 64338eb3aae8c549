"""Which of the listed tasks is the request's: by marker, else by name, creation time and networks.

The list call filters by part of a name, mixes kinds of migration, and older services leave `description`
out (API reference, "Listing Migration Tasks"), so every row is judged here.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from schemas.dcs import ONLINE_MIGRATION, TaskDetail, TaskRow
from worker.policy.call_result import LookupResult, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import MigrationRequest

CLOCK_SLACK: Final = 60.0
"""Seconds by which the service's clock may be behind ours."""
_ANY_ZONE: Final = 14 * 3600.0
"""A time without an offset may be local time anywhere."""
_FORMATS: Final = ("%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M")


class Match(Enum):
    """What one row says."""

    NO = "no"
    YES = "yes"
    ASK = "ask"
    """Only the detail call can tell."""


def row(migration: MigrationRequest, row: TaskRow, since: float) -> Match:
    """Judge a row of the list. `since`: epoch seconds before which the request was not known."""
    if row.migration_type not in (None, ONLINE_MIGRATION) or row.task_name != migration.task.name:
        return Match.NO
    if migration.marker is None:
        created = latest(row.created_at)
        return Match.NO if created is not None and created < since - CLOCK_SLACK else Match.ASK
    if row.description is None:
        return Match.ASK
    return Match.YES if _is_marked(row.description, migration.marker) else Match.NO


def detail(migration: MigrationRequest, detail: TaskDetail) -> Match:
    """Judge a task by the detail call: YES or NO."""
    if migration.marker is not None:
        is_ours = _is_marked(detail.description or "", migration.marker)
    else:
        networks = (detail.tenant_vpc_id, detail.tenant_subnet_id, detail.tenant_security_group_id)
        is_ours = networks == (migration.task.vpc_id, migration.task.subnet_id, migration.task.security_group_id)
    return Match.YES if is_ours else Match.NO


def lookup_result(task_ids: Iterable[str], dcs_request_id: str | None = None) -> LookupResult:
    """Result of a look-up that matched these tasks."""
    match sorted(set(task_ids)):
        case []:
            return TaskNotFound()
        case [task_id]:
            return TaskFound(task_id, dcs_request_id)
        case several:
            return SeveralTasks(tuple(several))


def _is_marked(description: str, marker: str) -> bool:
    # The marker is always the last word; anywhere else it is a sender's text.
    return description.rstrip().endswith(marker)


def latest(text: str | None) -> float | None:
    """The latest moment (epoch seconds) that a date of the service can mean; None if it means nothing."""
    if text is None:
        return None
    moment = _moment(text.strip())
    if moment is None:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp() + _ANY_ZONE
    return moment.timestamp()


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is not said, which `latest` allows for
        except ValueError:
            continue
    return None
