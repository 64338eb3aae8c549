"""The migration tasks that exist, and their JSON: 25 members in a list row, 22 in the detail.

Dates have the service's several styles. The detail holds passwords in plain text, as the real one does, so that a
client which logs it is found out. Source: DCS API V2, Listing Migration Tasks and Querying Details of a Data
Migration Task.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from worker.tools.fake_dcs.settings import Dates, FakeDcsSettings

ONLINE_MIGRATION = "online_migration"
PLAIN_TEXT_PASSWORD = "Plain-Text-Redis-Password-1"  # noqa: S105 - invented, and shown on purpose
"""The password in every detail: no log, event or page of a client may contain it."""


@dataclass(slots=True)
class MigrationTask:
    """One task: `created` and `visible` in epoch seconds, `body` is the create request as received.

    A task that is added by hand represents one that the worker did not create: an older one, one of another type, a
    second one with the same name.
    """

    project_id: str
    name: str
    created: float
    visible: float = 0.0
    description: str | None = None
    vpc_id: str = "vpc"
    subnet_id: str = "subnet"
    security_group_id: str = "group"
    migration_type: str | None = ONLINE_MIGRATION
    status: str = "RUNNING"
    task_id: str = field(default_factory=lambda: str(uuid4()))
    body: dict[str, Any] = field(default_factory=dict)


class TaskStore:
    """All tasks in order of creation, found by project or id.

    `repeated` has the number of online tasks of every `project/name` that was created more than once.
    """

    def __init__(self) -> None:
        self.all: list[MigrationTask] = []
        self._of_project: dict[str, list[MigrationTask]] = {}
        self._by_id: dict[str, MigrationTask] = {}
        self._count_by_name: Counter[tuple[str, str]] = Counter()
        self.repeated: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<TaskStore {len(self.all)}>"

    def add(self, task: MigrationTask) -> None:
        """Add a task."""
        self.all.append(task)
        self._of_project.setdefault(task.project_id, []).append(task)
        self._by_id[task.task_id] = task
        if task.migration_type == ONLINE_MIGRATION:
            self._count(task.project_id, task.name)

    def create(self, project: str, body: Mapping[str, Any], now: float, visibility: float) -> MigrationTask:
        """Create the task of a valid request body; it is listed `visibility` seconds after `now`."""
        task = MigrationTask(
            project_id=project,
            name=body["name"],
            description=body.get("description"),
            vpc_id=body["vpc_id"],
            subnet_id=body["subnet_id"],
            security_group_id=body["security_group_id"],
            created=now,
            visible=now + visibility,
            body=dict(body),
        )
        self.add(task)
        return task

    def visible(self, project: str, name: str, fuzzy: bool, now: float) -> list[MigrationTask]:
        """The project's tasks that are listed at `now`, newest first; `name` filters by part or whole, "" does not."""
        found = [
            task
            for task in self._of_project.get(project, ())
            if task.visible <= now and (not name or (name in task.name if fuzzy else name == task.name))
        ]
        found.sort(key=lambda task: -task.created)
        return found

    def find(self, project: str, task_id: str, now: float) -> MigrationTask | None:
        """The project's task with this id, if it is listed at `now`."""
        task = self._by_id.get(task_id)
        return task if task and task.project_id == project and task.visible <= now else None

    def _count(self, project: str, name: str) -> None:
        self._count_by_name[project, name] += 1
        if self._count_by_name[project, name] > 1:
            self.repeated[f"{project}/{name}"] = self._count_by_name[project, name]


def page(tasks: list[MigrationTask], settings: FakeDcsSettings, offset: int, limit: int) -> dict[str, Any]:
    """The body of a list reply: one page of rows, and the count of all."""
    kinds = ("backupfile_import", None) if settings.mixed_types else (None,)
    shown = [(task, kind) for task in tasks for kind in kinds]
    rows = []
    for task, kind in shown[offset : offset + limit]:
        row = list_row(task, settings)
        if kind is not None:
            row.update(task_id=f"import-{task.task_id}", migration_type=kind)
        rows.append(row)
    return {"count": len(shown), "migration_tasks": rows}


def list_row(task: MigrationTask, settings: FakeDcsSettings) -> dict[str, Any]:
    """One list row of an unconfigured task; without `description` if the settings say so."""
    unconfigured = dict.fromkeys(
        (
            *("migration_method", "ecs_tenant_private_ip", "data_source"),
            *("source_instance_name", "source_instance_id", "source_instance_status"),
            *("source_instance_subnet_id", "source_instance_spec_code"),
            *(
                "target_instance_addrs",
                "target_instance_name",
                "target_instance_id",
                "target_instance_status",
            ),
            *("target_instance_subnet_id", "target_instance_spec_code"),
            *("error_message", "released_at", "version", "resume_mode"),
        )
    )
    row: dict[str, Any] = {
        "task_id": task.task_id,
        "task_name": task.name,
        "status": task.status,
        "migration_type": task.migration_type,
        **unconfigured,
        "created_at": _format_date(task.created + settings.clock_offset, settings.dates, "iso"),
        "supported_features": [],
    }
    if settings.descriptions:
        row["description"] = task.description
    return row


def detail(task: MigrationTask, settings: FakeDcsSettings) -> dict[str, Any]:
    """The detail of one task, network ids and passwords included."""
    return {
        "task_id": task.task_id,
        "task_name": task.name,
        "description": task.description,
        "status": task.status,
        "migration_type": task.migration_type,
        "migration_method": None,
        "ecs_tenant_private_ip": None,
        "backup_files": None,
        "network_type": "vpc",
        "source_instance": _instance("source"),
        "target_instance": _instance("target"),
        "created_at": _format_date(task.created + settings.clock_offset, settings.dates, "slashes"),
        "updated_at": None,
        "released_at": None,
        "version": None,
        "resume_mode": None,
        "supported_features": [],
        "tenant_vpc_id": task.vpc_id,
        "tenant_subnet_id": task.subnet_id,
        "tenant_security_group_id": task.security_group_id,
        "bandwidth_limit_mb": None,
        "task_status": task.status,
    }


def _instance(name: str) -> dict[str, Any]:
    return {
        "addrs": "192.168.1.2:6379",
        "id": None,
        "name": name,
        "ip": "192.168.1.2",
        "port": "6379",
        "proxy_multi_db": False,
        "password": PLAIN_TEXT_PASSWORD,
        "task_status": None,
        "db": "0",
    }


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


_DATE_STYLES: dict[str, Callable[[datetime], str | None]] = {
    "iso": _iso,
    "slashes": lambda moment: moment.strftime("%Y/%m/%d %H:%M:%S"),
    "digits": lambda moment: moment.strftime("%Y%m%d%H%M"),
    "nonsense": lambda _: "the day before yesterday",
    "null": lambda _: None,
}


def _format_date(epoch: float, chosen: Dates, documented: str) -> str | None:
    style = documented if chosen == "documented" else chosen
    return _DATE_STYLES[style](datetime.fromtimestamp(epoch, UTC))
