"""Migration request: a valid request with everything that is derived from it once, and its parser."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from schemas import identity
from schemas.dcs import create_body
from schemas.request import InvalidRequestError, Request, Sender, Task, Violation, parse
from schemas.violations import TEXT_LIMIT

UNKNOWN_REGION: Final = Violation(field="region", message="is not one of the worker's regions")

Key = tuple[str, str]
"""Project id and request id: the identity of a request."""


@dataclass(frozen=True, slots=True)
class MigrationRequest:
    """What is to be created, for whom, and how it is recognised."""

    project_id: str
    request_id: str
    region: str
    task: Task
    """As the sender wrote it."""
    marker: str | None
    """The text in the description by which the created task is recognised; None: by everything else."""
    fingerprint: str
    not_after: float | None
    body: bytes
    """The body of the create call."""
    has_sender_request_id: bool
    """The sender gave the request id; else it is derived from the content."""
    message: bytes = b""
    """The body of the message as received, where a failure may have to be published for it."""

    @property
    def key(self) -> Key:
        """The request's identity within the whole installation."""
        return (self.project_id, self.request_id)

    @property
    def sender(self) -> Sender:
        """What an event says of the request."""
        return Sender(self.request_id, self.project_id, self.region, self.task.name)


def migration(request: Request, *, default_region: str, with_marker: bool, message: bytes = b"") -> MigrationRequest:
    """The migration request of a valid `request`, which came in the body `message`."""
    region = request.region or default_region
    request_id = request.request_id or identity.request_id(request.project_id, region, request.task)
    task = request.task
    marker = identity.marker(request_id) if with_marker else None
    description = identity.marked_description(task, marker) if marker is not None else task.description
    return MigrationRequest(
        project_id=request.project_id,
        request_id=request_id,
        region=region,
        task=task,
        marker=marker,
        fingerprint=identity.fingerprint(region, task),
        not_after=request.not_after.timestamp() if request.not_after else None,
        body=create_body(task, description),
        has_sender_request_id=request.request_id is not None,
        message=message,
    )


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Parser of message bodies."""

    max_bytes: int
    regions: Collection[str]
    default_region: str
    with_marker: bool = True

    def read(self, body: bytes, content_encoding: str | None = None) -> MigrationRequest:
        """The migration request in `body`. Raises InvalidRequestError, whose sender has no derived id."""
        try:
            request = parse(body, max_bytes=self.max_bytes, content_encoding=content_encoding)
        except InvalidRequestError as error:
            is_known = (error.sender.region or self.default_region) in self.regions
            violations = error.violations if is_known else (*error.violations, UNKNOWN_REGION)
            raise self._refusal(violations, error.sender, is_addressed=error.is_addressed) from None
        found = migration(request, default_region=self.default_region, with_marker=self.with_marker, message=body)
        if violations := tuple(self._violations(found)):
            sender = replace(found.sender, request_id=request.request_id)
            raise self._refusal(violations, sender, is_addressed=True)
        return found

    def _violations(self, found: MigrationRequest) -> Iterator[Violation]:
        if found.region not in self.regions:
            yield UNKNOWN_REGION
        limit = TEXT_LIMIT - len(f" {found.marker}")
        if found.marker is not None and len(found.task.description or "") > limit:
            message = f"must be at most {limit:,} characters long, to which the worker appends a marker"
            yield Violation(field="task.description", message=message)

    def _refusal(self, violations: tuple[Violation, ...], sender: Sender, *, is_addressed: bool) -> InvalidRequestError:
        """The error whose violation of the region lists the regions that a request can name."""
        regions = f" (configured: {', '.join(sorted(self.regions))})"
        named = (Violation(field=v.field, message=v.message + regions * (v.field == "region")) for v in violations)
        return InvalidRequestError(tuple(named), sender, is_addressed=is_addressed)
