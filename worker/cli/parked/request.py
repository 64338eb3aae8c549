"""Parked requests as far as they are readable: identity, reason, state, headers of a replay; and their queue."""

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from schemas import identity, names
from schemas.envelope import Envelope, is_parked_by_sender
from schemas.journal import Kind
from schemas.request import InvalidRequestError, Sender, parse
from schemas.timestamp import from_text, to_text
from worker.bootstrap.components import brokers
from worker.cli.common import printable
from worker.cli.parked.selection import Selection
from worker.config import Settings
from worker.policy.migration_request import Key, MigrationRequest, migration
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.parked_queue import ParkedMessage, ParkedQueue, open_parked_queue

NO_MATCH: Final = "No parked request matches."
_MAX_TEXT_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class ParkedRequest:
    """One message of the parked queue, as far as it is readable; times in epoch seconds."""

    parked: ParkedMessage
    parsed: MigrationRequest | None
    """None: the body is not a valid request, `invalid_reason` says why."""
    invalid_reason: str
    sender: Sender
    reason: str
    error_code: str | None
    parked_at: float | None
    """Epoch seconds. None: the broker parked it (dead-lettered), not a worker."""
    envelope: Envelope

    @classmethod
    def read(cls, parked: ParkedMessage, settings: Settings) -> Self:
        """Read a message as a worker with these settings reads it."""
        found, invalid_reason, sender = _parse(parked, settings)
        headers = parked.headers
        is_own_copy = not is_parked_by_sender(headers, settings.queue)
        written = headers if is_own_copy else {}
        return cls(
            parked,
            found,
            invalid_reason,
            sender,
            reason=_printable_text(written.get(names.PARKED_REASON)) or _dead_letter_reason(headers),
            error_code=_printable_text(written.get(names.PARKED_ERROR_CODE)),
            parked_at=from_text(written.get(names.PARKED_AT)),
            envelope=_envelope(headers, time.time(), is_own_copy=is_own_copy),
        )

    @property
    def id(self) -> str:
        """Its request id, else its message id, else the hash of its body."""
        return self.ids[0]

    @property
    def ids(self) -> Sequence[str]:
        """All ids that select it, see `id`."""
        known = (self.sender.request_id, self.parked.properties.message_id, identity.body_id(self.parked.body))
        return [value for value in known if value]

    @property
    def key(self) -> Key:
        """What all messages of one request have in common: project and id."""
        return (self.sender.project_id or "", self.id)

    @property
    def name(self) -> str:
        """Name of the task; empty if not readable."""
        return self.sender.name or ""

    def age(self, now: float) -> float | None:
        """Seconds since it was parked; None if unknown."""
        return None if self.parked_at is None else max(0.0, now - self.parked_at)

    def matches(self, selection: Selection, now: float) -> bool:
        """Whether it is selected at `now` (epoch seconds)."""
        criteria = (
            (selection.reason, self.reason),
            (selection.error_code, self.error_code),
            (selection.project, self.sender.project_id),
        )
        return (
            (not selection.ids or not selection.ids.isdisjoint(self.ids))
            and all(expected in (None, actual) for expected, actual in criteria)
            and (selection.name is None or fnmatchcase(self.name, selection.name))
            and (selection.older_than is None or (self.age(now) or 0.0) > selection.older_than)
        )

    def replay_headers(self, delivery_limit: int, now: float) -> dict[str, object]:
        """The headers of its copy: a new retry schedule, and the state that makes a worker look before it creates.

        A request that crashed workers stays a suspect, which is handled alone, but gets half of its deliveries back.
        """
        replays = self.envelope.replays + 1
        changed = replace(
            self.envelope,
            round=0,
            replays=replays,
            journal=self.envelope.journal.add(now, Kind.REPLAYED, n=replays),
            interruptions=min(self.envelope.interruptions, delivery_limit // 2),
        )
        headers = changed.write(self.parked.headers)
        return {name: value for name, value in headers.items() if not name.startswith(names.PARKED_PREFIX)}

    def summary(self) -> dict[str, Any]:
        """Identity, reason and time of parking as JSON."""
        error = self.envelope.last_error
        known = {"reason": self.reason, "error_code": self.error_code, "parked_at": time_text(self.parked_at)}
        return {"id": self.id, **asdict(self.sender), **known, "error": error and asdict(error)}

    def record(self) -> dict[str, Any]:
        """The whole message as JSON values: its summary, headers, other properties, and body (base64 if not UTF-8).

        Headers of the broker are left out: they count how often the parked queue was read.
        """
        headers = {name: value for name, value in self.parked.headers.items() if name not in names.BROKER}
        return {
            **self.summary(),
            "headers": _json_value(headers),
            "properties": _json_value(self.parked.attributes),
            "body": _json_value(self.parked.body),
        }


def _parse(parked: ParkedMessage, settings: Settings) -> tuple[MigrationRequest | None, str, Sender]:
    try:
        encoding = parked.properties.content_encoding
        request = parse(parked.body, max_bytes=settings.max_message_bytes, content_encoding=encoding)
    except InvalidRequestError as error:
        return None, str(error), error.sender
    found = migration(request, default_region=settings.dcs_region, with_marker=settings.marker, message=parked.body)
    return found, "", found.sender


def _envelope(headers: Mapping[str, object], now: float, *, is_own_copy: bool) -> Envelope:
    """The state headers, without the delivery that reading the parked queue counts."""
    envelope = Envelope.read(headers, redelivered=False, now=now, is_own_copy=is_own_copy)
    envelope = replace(envelope, deliveries=envelope.deliveries - 1)
    if not is_own_copy or names.FIRST_RECEIVED_AT not in headers:
        # Without marker only tasks younger than the first receipt match. It is unknown, so that all tasks match.
        envelope = replace(envelope, first_received_at=0.0)
    if not is_own_copy or names.PARKED_AT not in headers:
        # The broker parked it after interrupted deliveries; in each of them a create may have been sent.
        envelope = replace(envelope, last_sent_at=now)
    return envelope


def _dead_letter_reason(headers: Mapping[str, object]) -> str:
    """Why the broker dead-lettered it (https://www.rabbitmq.com/docs/dlx#effects)."""
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    cause = latest.get("reason") if isinstance(latest, Mapping) else None
    return f"by the broker: {_printable_text(cause) or 'unknown'}"


def _printable_text(value: object) -> str | None:
    return printable(value[:_MAX_TEXT_LENGTH]) if isinstance(value, str) and value else None


def time_text(moment: float | None) -> str | None:
    """Epoch seconds as text; None if unknown."""
    return None if moment is None else to_text(moment)


def _json_value(value: object) -> Any:
    return json.loads(json.dumps(value, default=_json_text))


def _json_text(value: object) -> Any:
    """A value that JSON does not have."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if not isinstance(value, bytes | bytearray):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


@asynccontextmanager
async def parked_queue(settings: Settings) -> AsyncIterator[ParkedQueue]:
    """The open parked queue. Raises BrokerError and ConfigurationError."""
    async with (
        open_connection(brokers(settings), "dcs-worker parked") as connection,
        open_parked_queue(connection, settings.queue) as queue,
    ):
        yield queue


@asynccontextmanager
async def open_parked_records(settings: Settings) -> AsyncIterator[Callable[[ParkedRequest], Awaitable[None]]]:
    """Deletes what Redis knows of a parked request, before it is replayed or dropped. Raises ClaimsAwayError."""
    async with AsyncExitStack() as stack:
        forget = None
        if settings.claims_url is not None:
            from worker.claims.parked_records import parked_records  # 10 MB of memory

            forget = await stack.enter_async_context(parked_records(settings.claims_url.get_secret_value()))

        async def forget_record(request: ParkedRequest) -> None:
            if forget is not None and request.parsed is not None:
                await forget(request.parsed, request.envelope.replays)

        yield forget_record


async def selected_requests(
    queue: ParkedQueue, settings: Settings, selection: Selection
) -> AsyncIterator[list[ParkedRequest]]:
    """The selected requests as they are read, a few at a time; all stay unacknowledged. Raises BrokerError."""
    now = time.time()
    async for messages in queue.read():
        requests = (ParkedRequest.read(message, settings) for message in messages)
        yield [request for request in requests if request.matches(selection, now)]


async def read_with_id(queue: ParkedQueue, settings: Settings, identity: str) -> list[ParkedRequest]:
    """Every parked message of the request `identity`, oldest first. Raises BrokerError."""
    selection = Selection(frozenset((identity,)))
    found = [request async for batch in selected_requests(queue, settings, selection) for request in batch]
    return sorted(found, key=lambda request: request.parked_at or 0.0)
