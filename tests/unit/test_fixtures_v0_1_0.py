"""What version 0.1.0 wrote into queues, Redis and events is read by today's code, with the same meaning."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

import schemas
from schemas import names
from schemas.client import read_event
from schemas.envelope import Envelope
from schemas.event import MigrationFailed, MigrationSucceeded
from schemas.journal import Journal
from schemas.timestamp import to_text
from tests.fixtures.frozen import (
    FOLDER,
    READ_AT,
    claimed_order,
    envelope_meaning,
    expected,
    headers,
    journal_meaning,
    load,
    properties,
)
from worker.claims import records
from worker.claims.scripts import MEMORY_KEY, record_key
from worker.cli.parked.request import ParkedRequest
from worker.config import load as load_settings
from worker.rabbit.tools.parked_queue import ParkedMessage

MESSAGES, RECORDS, EVENTS = load("headers"), load("redis"), load("events")
IN_PARKED_QUEUE = sorted(name for name, message in MESSAGES.items() if message["queue"].endswith(".parked"))
COPIES = sorted(name for name in MESSAGES if not name.startswith(("original", "dead_lettered", "renewed_dead")))
CLAIMS = sorted(set(RECORDS) - {"memory"})
SETTINGS = load_settings({}, credentials=False).settings
"""What a command without any setting works with."""


def test_no_file_is_missing_or_edited() -> None:
    """Every file is as it was frozen: an edit would let a later version change the format unnoticed."""
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    listed = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    paths = [
        path for path in sorted(FOLDER.rglob("*")) if path.is_file() and path.name not in ("README.md", "SHA256SUMS")
    ]
    assert {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    } == listed


@pytest.mark.parametrize("kind", ["headers", "redis", "events"])
def test_every_file_has_a_meaning(kind: str) -> None:
    """A file without an expected meaning, or a meaning without its file, is an omission."""
    assert sorted(load(kind)) == sorted(expected(kind))


@pytest.mark.parametrize("name", MESSAGES)
def test_envelope_is_read_from_headers(name: str) -> None:
    """The state that a message carries."""
    message = MESSAGES[name]
    envelope = Envelope.read(headers(message), redelivered=message["redelivered"], now=READ_AT)
    assert envelope_meaning(envelope) == expected("headers")[name]["envelope"]


@pytest.mark.parametrize("name", COPIES)
def test_copy_of_copy_has_the_same_headers(name: str) -> None:
    """State headers are written as 0.1.0 wrote them, and foreign headers pass unchanged."""
    found = headers(MESSAGES[name])
    envelope = Envelope.read(found, redelivered=False, now=READ_AT)
    left_out = {header for header in found if header in names.BROKER or header.startswith(names.DEATH_PREFIXES)}
    same = {header: value for header, value in found.items() if header not in left_out}
    written = envelope.write(found)
    assert written == same | {names.DELIVERIES: same[names.DELIVERIES] + 1}
    assert {header: type(value) for header, value in written.items()} == {h: type(v) for h, v in same.items()}


@pytest.mark.parametrize("name", IN_PARKED_QUEUE)
def test_parked_request_is_read(name: str) -> None:
    """What `parked list` and `parked show` say of it."""
    message = MESSAGES[name]
    request = ParkedRequest.read(ParkedMessage(message["body"].encode(), properties(message)), SETTINGS)
    assert {
        "id": request.id,
        "request_id": request.sender.request_id,
        "is_request": request.parsed is not None,
        "reason": request.reason,
        "error_code": request.error_code,
        "parked_at": request.summary()["parked_at"],
    } == expected("headers")[name]["parked"]


@pytest.mark.parametrize("name", CLAIMS)
def test_redis_record_belongs_to_the_same_request(name: str) -> None:
    """Key and fingerprint are derived from a request as 0.1.0 derived them."""
    migration = claimed_order(RECORDS[name])
    assert record_key(migration).decode() == RECORDS[name]["key"]
    assert migration.fingerprint == RECORDS[name]["fields"]["fingerprint"]


def test_redis_memory_is_understood() -> None:
    """Since when Redis has forgotten nothing."""
    record = RECORDS["memory"]
    since = expected("redis")["memory"]["forgot_nothing_since"]
    assert record["key"] == MEMORY_KEY.decode()
    believed = [records.is_remembered(record["value"].encode(), since + age, 600.0) for age in (599.0, 601.0)]
    assert believed == [False, True]


@pytest.mark.parametrize("name", EVENTS)
def test_event_is_read(name: str) -> None:
    """What a sender learns, and that the event still fits its published schema."""
    event, meaning = EVENTS[name], expected("events")[name]
    content = read_event(event["body"].encode())
    assert _event_meaning(content) | {"journal": journal_meaning(Journal.read(headers(event).get(names.JOURNAL)))} == {
        key: value for key, value in meaning.items() if key != "operator_replays"
    }
    schema = "migration_succeeded" if isinstance(content, MigrationSucceeded) else "migration_failed"
    published = json.loads((Path(schemas.__file__).parent / "json" / f"{schema}.json").read_text())
    Draft202012Validator(published, format_checker=FormatChecker()).validate(json.loads(event["body"]))


CONCLUDED = sorted(name for name, record in RECORDS.items() if "ending" in record.get("fields", {}))


@pytest.mark.parametrize("name", CONCLUDED)
def test_stored_outcome_answers_what_had_arrived_before_it(name: str) -> None:
    """A copy gets the event under the id that 0.1.0 gave it; a later message only if the request is not free again."""
    fields, migration = RECORDS[name]["fields"], claimed_order(RECORDS[name])
    stored = " ".join(fields[field] for field in ("fingerprint", "succeeded", "replays", "ending"))
    outcome = records.read_ending(stored.encode(), migration, READ_AT)
    assert outcome is not None
    assert outcome.event_id == json.loads(fields["ending"])["event_id"]
    is_expired, replays = outcome.reason == "expired", outcome.replays
    redelivered, later = (
        replace(Envelope.read({}, redelivered=is_redelivered, now=READ_AT), replays=replays)
        for is_redelivered in (True, False)
    )
    assert outcome.answers(migration, redelivered) is not is_expired
    assert outcome.answers(replace(migration, not_after=1.0), redelivered)
    assert outcome.answers(migration, later) is (outcome.succeeded or outcome.parked)
    assert outcome.answers(migration, replace(redelivered, replays=replays + 1)) is outcome.succeeded


def _event_meaning(content: MigrationSucceeded | MigrationFailed) -> dict[str, Any]:
    received_at = to_text(content.received_at.timestamp())
    common = {"request_id": content.request_id, "create_calls": content.attempts, "received_at": received_at}
    if isinstance(content, MigrationSucceeded):
        return common | {"resolution": content.resolution, "instance_id": content.instance_id, "job_id": content.job_id}
    error = content.error
    return common | {
        "reason": content.reason,
        "parked": content.parked,
        "error": None if error is None else [error.status, error.error_code],
        "candidates": list((error and error.candidates) or ()),
        "violations": [violation.field for violation in content.violations],
    }
