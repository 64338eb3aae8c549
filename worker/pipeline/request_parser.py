"""Request parser: from the body of a message to a migration request, by the rules of this worker's settings.

Short on purpose: the rules of a message are in `schemas`, those of one worker are here.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from schemas.request import InvalidRequestError, Violation, parse
from schemas.violations import TEXT_LIMIT
from worker.policy.migration_request import MigrationRequest, migration


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Parser of message bodies."""

    max_bytes: int
    regions: Container[str]
    default_region: str
    with_marker: bool = True

    def read(self, body: bytes, content_encoding: str | None = None) -> MigrationRequest:
        """The migration request in `body`. Raises InvalidRequestError."""
        request = parse(body, max_bytes=self.max_bytes, content_encoding=content_encoding)
        found = migration(request, default_region=self.default_region, with_marker=self.with_marker, message=body)
        if violations := tuple(self._violations(found)):
            raise InvalidRequestError(violations, found.sender, is_addressed=True)
        return found

    def _violations(self, found: MigrationRequest) -> Iterator[Violation]:
        if found.region not in self.regions:
            yield Violation(field="region", message="is not one of the worker's regions")
        limit = TEXT_LIMIT - len(f" {found.marker}")
        if found.marker is not None and len(found.task.description or "") > limit:
            message = f"must be at most {limit:,} characters long, to which the worker appends a marker"
            yield Violation(field="task.description", message=message)
