"""The events: how a request ended, and whether its task became ready. Plain JSON bodies, CloudEvents 1.0 metadata.

The metadata is in AMQP headers (binary mode).
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from . import names
from .request import Violation
from .timestamp import to_text

SUCCEEDED_KEY: Final = "migration.succeeded"
FAILED_KEY: Final = "migration.failed"
PROVISIONED_KEY: Final = "migration.provisioned"
PROVISIONING_FAILED_KEY: Final = "migration.provisioning_failed"
SUCCEEDED_TYPE: Final = "dcs.migration.succeeded.v1"
FAILED_TYPE: Final = "dcs.migration.failed.v1"
PROVISIONED_TYPE: Final = "dcs.migration.provisioned.v1"
PROVISIONING_FAILED_TYPE: Final = "dcs.migration.provisioning_failed.v1"
KEYS: Final = {
    SUCCEEDED_TYPE: SUCCEEDED_KEY,
    FAILED_TYPE: FAILED_KEY,
    PROVISIONED_TYPE: PROVISIONED_KEY,
    PROVISIONING_FAILED_TYPE: PROVISIONING_FAILED_KEY,
}
"""The routing key of each event type."""
SOURCE: Final = "dcs-migration-worker"
SPECVERSION: Final = "1.0"
DATASCHEMAS: Final = {
    SUCCEEDED_TYPE: names.schema_id("migration_succeeded"),
    FAILED_TYPE: names.schema_id("migration_failed"),
    PROVISIONED_TYPE: names.schema_id("migration_provisioned"),
    PROVISIONING_FAILED_TYPE: names.schema_id("migration_provisioning_failed"),
}
"""The `$id` of the JSON Schema of each event type's body."""


class Reason(StrEnum):
    """Why a request failed."""

    INVALID_REQUEST = "invalid_request"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    UNRESOLVED = "unresolved"
    POISON = "poison"


# These need an operator; the sender corrects the others.
PARKED_REASONS: Final = frozenset(
    (
        Reason.UNAUTHENTICATED,
        Reason.FORBIDDEN,
        Reason.NOT_FOUND,
        Reason.EXHAUSTED,
        Reason.UNRESOLVED,
        Reason.POISON,
    )
)

Resolution = Literal["created", "adopted"]

# What a later version adds is read as text: readers must accept unknown values.
AnyReason = Annotated[
    Reason | str,
    Field(union_mode="left_to_right"),
    WithJsonSchema({"type": "string", "examples": [reason.value for reason in Reason]}),
]
AnyResolution = Annotated[Resolution | str, WithJsonSchema({"type": "string", "examples": ["created", "adopted"]})]


def _instant(time: datetime) -> str:
    return to_text(time.timestamp())


Instant = Annotated[
    AwareDatetime,
    PlainSerializer(_instant, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Attempts = Annotated[int, Field(ge=0, description="Create calls made for the request.")]
DcsRequestId = Annotated[str | None, Field(description="Request id that DCS gave the deciding call.")]


class ProvisioningReason(StrEnum):
    """Why a created task is not ready."""

    TASK_FAILED = "task_failed"
    TASK_GONE = "task_gone"
    TIMEOUT = "timeout"


AnyProvisioningReason = Annotated[
    ProvisioningReason | str,
    Field(union_mode="left_to_right"),
    WithJsonSchema({"type": "string", "examples": [reason.value for reason in ProvisioningReason]}),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class DcsError(_Frozen):
    """What DCS answered last, or which tasks are candidates if that is not certain."""

    status: int | None = Field(default=None, description="HTTP status; null if there was no answer.")
    error_code: str | None = Field(default=None, description="As DCS or its gateway sent it.")
    error_msg: str | None = None
    error_ext_msg: str | None = None
    candidates: tuple[str, ...] | None = Field(default=None, description="Ids of tasks that may be the request's.")

    @model_serializer(mode="wrap")
    def _without_candidates(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = handler(self)
        if content.get("candidates") is None:
            content.pop("candidates", None)
        return content


class MigrationSucceeded(_Frozen):
    """The task exists: created by this attempt, or adopted from an earlier one."""

    request_id: str = Field(description="The request's own id, or the one derived from its content.")
    project_id: str
    region: str
    name: str = Field(description="Name of the task.")
    instance_id: str = Field(description="Id of the task.")
    job_id: str | None = Field(default=None, description="Id of the job that prepares the task, if DCS named one.")
    resolution: AnyResolution = Field(
        description="Created by this attempt, or adopted: found to exist from an earlier one."
    )
    task_status: str | None = Field(
        default=None,
        description="Status word of DCS when a look-up found the task, as DCS writes it; null for a task just created.",
    )
    attempts: Attempts
    dcs_request_id: DcsRequestId = None
    received_at: Instant = Field(description="When the request was first received.")
    completed_at: Instant


class MigrationFailed(_Frozen):
    """No task will be created for the request, or an operator has to find out whether one exists."""

    request_id: str | None = Field(default=None, description="Null if it could not be read.")
    project_id: str | None = Field(default=None, description="Null if it could not be read.")
    region: str | None = Field(default=None, description="Null if it could not be read.")
    name: str | None = Field(default=None, description="Name of the task; null if it could not be read.")
    reason: AnyReason = Field(
        description="`conflict` and `invalid_request` speak of one message, not of its request_id. "
        "Later versions may have other values."
    )
    message: str = Field(description="One sentence for an operator.")
    error: DcsError | None = Field(
        default=None, title="LastError", description="Null if DCS was not asked, or said nothing."
    )
    violations: tuple[Violation, ...] = Field(default=(), description="The broken rules of an invalid request.")
    attempts: Attempts = 0
    parked: bool = Field(
        default=False,
        description="The request is kept in the parked queue for an operator, after whose replay it can still succeed.",
    )
    dcs_request_id: DcsRequestId = None
    received_at: Instant = Field(description="When the request was first received.")
    completed_at: Instant


class MigrationProvisioned(_Frozen):
    """The task is ready to be configured. Published with `WORKER_FOLLOW_UP=true`, after `migration.succeeded`."""

    request_id: str = Field(description="As in `migration.succeeded` of the task.")
    project_id: str
    region: str
    name: str = Field(description="Name of the task.")
    instance_id: str = Field(description="Id of the task.")
    job_id: str | None = Field(default=None, description="Id of the job that prepares the task, if DCS named one.")
    task_status: str | None = Field(default=None, description="Last status word of DCS, as DCS writes it.")
    ecs_tenant_private_ip: str | None = Field(
        default=None, description="Address of the task's ECS, for the allowlist of Redis; null if DCS names none."
    )
    checks: int = Field(ge=0, description="Looks at the task.")
    succeeded_at: Instant = Field(description="`completed_at` of `migration.succeeded`.")
    completed_at: Instant


class MigrationProvisioningFailed(MigrationProvisioned):
    """The accepted task is not ready. Published with `WORKER_FOLLOW_UP=true`, after `migration.succeeded`."""

    reason: AnyProvisioningReason = Field(
        description="DCS could not create it, it is released or deleted, or it was not ready in time. "
        "Later versions may have other values."
    )
    fail_reason: str | None = Field(default=None, description="In the words of DCS; null if DCS says none.")


def headers(*, id_: str, type_: str, subject: str | None, time: str) -> dict[str, str]:
    """The CloudEvents attributes of an event as AMQP headers."""
    attributes = {
        "cloudEvents:specversion": SPECVERSION,
        "cloudEvents:id": id_,
        "cloudEvents:source": SOURCE,
        "cloudEvents:type": type_,
        "cloudEvents:dataschema": DATASCHEMAS[type_],
        "cloudEvents:time": time,
    }
    if subject is not None:
        attributes["cloudEvents:subject"] = subject
    return attributes
