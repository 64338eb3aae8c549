"""The migration tasks that exist."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

ONLINE_MIGRATION = "online_migration"


@dataclass(slots=True)
class MigrationTask:
    """One task; `created` and `visible` are epoch seconds, `body` is the create request as it came.

    A task made by hand stands for one that nobody asked for: an older one, one of another kind, a second of a name.
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

    `repeated` says how many online tasks exist of every `project/name` that was created more than once.
    """

    def __init__(self) -> None:
        self.all: list[MigrationTask] = []
        self._of_project: dict[str, list[MigrationTask]] = {}
        self._by_id: dict[str, MigrationTask] = {}
        self._count_by_name: Counter[tuple[str, str]] = Counter()
        self.repeated: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Tasks {len(self.all)}>"

    def add(self, task: MigrationTask) -> None:
        """Let a task exist."""
        self.all.append(task)
        self._of_project.setdefault(task.project_id, []).append(task)
        self._by_id[task.task_id] = task
        if task.migration_type == ONLINE_MIGRATION:
            self._count(task.project_id, task.name)

    def create(self, project: str, body: Mapping[str, Any], now: float, visibility: float) -> MigrationTask:
        """Make the task that a valid request body asks for; it is listed `visibility` seconds after `now`."""
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
        """The project's tasks that `now` shows, newest first; `name` filters by part or whole, "" does not."""
        found = [
            task
            for task in self._of_project.get(project, ())
            if task.visible <= now and (not name or (name in task.name if fuzzy else name == task.name))
        ]
        found.sort(key=lambda task: -task.created)
        return found

    def find(self, project: str, task_id: str, now: float) -> MigrationTask | None:
        """The project's visible task of this id."""
        task = self._by_id.get(task_id)
        return task if task and task.project_id == project and task.visible <= now else None

    def _count(self, project: str, name: str) -> None:
        self._count_by_name[project, name] += 1
        if self._count_by_name[project, name] > 1:
            self.repeated[f"{project}/{name}"] = self._count_by_name[project, name]
