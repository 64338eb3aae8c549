"""The migration tasks that exist, and their JSON: 25 members in a list row, 22 in the detail, 6 in a job.

The detail holds passwords in plain text, as the real one does, so that a client which logs it is found out. Source:
DCS API V2, Listing Migration Tasks and Querying Details of a Data Migration Task.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

ONLINE_MIGRATION = "online_migration"
_REQUEST_FIELDS = ("name", "description", "vpc_id", "subnet_id", "security_group_id")
PRIVATE_IP = "192.168.0.7"
PLAIN_TEXT_PASSWORD = "Plain-Text-Redis-Password-1"  # noqa: S105 - invented, and shown on purpose
"""The password in every detail: no log, event or page of a client may contain it."""


@dataclass(slots=True)
class MigrationTask:
    """One task: `created`, `visible` and `provisioned` in epoch seconds, `body` is the create request as received.

    It is CREATING until `provisioned`; then it has its `status`, or ERROR if there is a `fail_reason`.
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
    provisioned: float = 0.0
    fail_reason: str | None = None
    job_id: str = field(default_factory=lambda: uuid4().hex)

    def status_at(self, now: float) -> str:
        """The status word that the service shows at `now`."""
        if now < self.provisioned:
            return "CREATING"
        return self.status if self.fail_reason is None else "ERROR"


class TaskStore:
    """All tasks in order of creation, found by project or id.

    `repeated` has the number of online tasks of every `project/name` that was created more than once.
    """

    def __init__(self) -> None:
        self.all: list[MigrationTask] = []
        self._of_project: dict[str, list[MigrationTask]] = {}
        self._by_id: dict[str, MigrationTask] = {}
        self._by_job: dict[str, MigrationTask] = {}
        self._count_by_name: Counter[tuple[str, str]] = Counter()
        self.repeated: dict[str, int] = {}

    def add(self, task: MigrationTask) -> None:
        """Add a task."""
        self.all.append(task)
        self._of_project.setdefault(task.project_id, []).append(task)
        self._by_id[task.task_id] = task
        self._by_job[task.job_id] = task
        if task.migration_type == ONLINE_MIGRATION:
            self._count(task.project_id, task.name)

    def create(self, project: str, body: Mapping[str, Any], now: float, **times: float) -> MigrationTask:
        """Create the task of a valid request body; `times` are seconds after `now`, by the task's field."""
        fields: dict[str, Any] = {name: body.get(name) for name in _REQUEST_FIELDS}
        fields |= {field: now + seconds for field, seconds in times.items()}
        task = MigrationTask(project, created=now, body=dict(body), **fields)
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

    def find_by_job(self, project: str, job_id: str) -> MigrationTask | None:
        """The project's task that this job creates."""
        task = self._by_job.get(job_id)
        return task if task and task.project_id == project else None

    def _count(self, project: str, name: str) -> None:
        self._count_by_name[project, name] += 1
        if self._count_by_name[project, name] > 1:
            self.repeated[f"{project}/{name}"] = self._count_by_name[project, name]


_ABSENT = dict.fromkeys(("migration_method", "ecs_tenant_private_ip", "released_at", "version", "resume_mode"))
_INSTANCE_PARTS = ("name", "id", "status", "subnet_id", "spec_code")
_ABSENT_IN_ROW = {
    **_ABSENT,
    **{f"{side}_instance_{part}": None for side in ("source", "target") for part in _INSTANCE_PARTS},
    **dict.fromkeys(("target_instance_addrs", "data_source", "error_message")),
}
_ABSENT_IN_DETAIL = {**_ABSENT, "backup_files": None, "updated_at": None, "bandwidth_limit_mb": None}


def list_row(task: MigrationTask, now: float) -> dict[str, Any]:
    """One list row of an unconfigured task at `now` (epoch seconds)."""
    created = datetime.fromtimestamp(task.created, UTC)
    return {
        "task_id": task.task_id,
        "task_name": task.name,
        "status": task.status_at(now),
        "migration_type": task.migration_type,
        **_ABSENT_IN_ROW,
        "ecs_tenant_private_ip": _private_ip(task, now),
        "error_message": task.fail_reason if now >= task.provisioned else None,
        "created_at": f"{created:%Y-%m-%dT%H:%M:%S}.{created.microsecond // 1000:03d}Z",
        "supported_features": [],
        "description": task.description,
    }


def detail(task: MigrationTask, now: float) -> dict[str, Any]:
    """The detail of one task at `now` (epoch seconds), network ids and passwords included; its date has no zone."""
    return {
        "task_id": task.task_id,
        "task_name": task.name,
        "description": task.description,
        "status": task.status_at(now),
        "task_status": task.status_at(now),
        "migration_type": task.migration_type,
        **_ABSENT_IN_DETAIL,
        "ecs_tenant_private_ip": _private_ip(task, now),
        "network_type": "vpc",
        "source_instance": _instance("source"),
        "target_instance": _instance("target"),
        "created_at": f"{datetime.fromtimestamp(task.created, UTC):%Y/%m/%d %H:%M:%S}",
        "supported_features": [],
        "tenant_vpc_id": task.vpc_id,
        "tenant_subnet_id": task.subnet_id,
        "tenant_security_group_id": task.security_group_id,
    }


def job(task: MigrationTask, now: float) -> dict[str, Any]:
    """The job that creates a task; its times are texts of epoch milliseconds."""
    has_ended = now >= task.provisioned
    status = "SUCCESS" if task.fail_reason is None else "FAIL"
    return {
        "job_id": task.job_id,
        "job_type": "createOnlineMigration",
        "status": status if has_ended else "RUNNING",
        "begin_time": str(int(task.created * 1000)),
        "end_time": str(int(max(task.created, task.provisioned) * 1000)) if has_ended else None,
        "fail_reason": task.fail_reason if has_ended else None,
    }


def _private_ip(task: MigrationTask, now: float) -> str | None:
    return None if task.status_at(now) in {"CREATING", "ERROR"} else PRIVATE_IP


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
