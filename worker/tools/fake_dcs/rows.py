"""Tasks as the API shows them: 25 members in a list row, 22 in the detail, dates in the service's several styles.

The detail carries passwords in plain text, as the real one does: whoever logs it is found out.
Source: DCS API V2, Listing Migration Tasks and Querying Details of a Data Migration Task.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from worker.tools.fake_dcs.settings import Dates, FakeDcsSettings
from worker.tools.fake_dcs.tasks import MigrationTask

PLAIN_TEXT_PASSWORD = "Plain-Text-Redis-Password-1"  # noqa: S105 - invented, and shown on purpose
"""What no log, event or page of a client may ever contain."""


def page(tasks: list[MigrationTask], settings: FakeDcsSettings, offset: int, limit: int) -> dict[str, Any]:
    """A list reply: so many of the rows, and how many there are in all."""
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
    """One row: what an unconfigured task has, null elsewhere; without `description` if the settings say so."""
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
