"""What the replies of the scripts mean, and which endings no worker can have written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.journal import EMPTY, Kind
from tests.unit.claims.sample_migration import MIGRATION
from worker.claims import records
from worker.claims.connection import NoReply
from worker.claims.records import Doubted, Unreadable
from worker.pipeline import final_events
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable

NOW = 1795000000.25
ENVELOPE = Envelope(1, 0, 1, 0, 1, NOW - 3, None, False, False, journal=EMPTY.add(NOW, Kind.CREATE, "503", n=1))
DONE = final_events.succeeded(MIGRATION, ENVELOPE, TaskCreated("é-1", "j-1"), "created", NOW)
FAILED = replace(final_events.failed(MIGRATION, ENVELOPE, Reason.REJECTED, NOW), error_code="DCS.4001\n数")
RECORDS_0_1_0: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "claims_records_v0_1_0.json").read_text()
)


def stored(ending: Completed, migration: MigrationRequest = MIGRATION) -> bytes:
    """The ending as the scripts answer it."""
    head = f"{migration.fingerprint} {int(ending.succeeded)} {ending.replays} "
    return head.encode() + records.encode_ending(ending)


def changed(**members: Any) -> bytes:
    """The failure with other members in its record, under the head that it had."""
    record = FAILED.to_record() | members
    return b"%b 0 1 %b" % (MIGRATION.fingerprint.encode(), json.dumps(record).encode())


def event(**members: Any) -> str:
    """The body of the failure with other members."""
    return json.dumps(json.loads(FAILED.body) | members)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"new", Granted(is_first=True)),
        (b"free ", Granted(is_first=False)),
        (b"free 17.25", Granted(is_first=False, last_sent_at=17.25)),
        (b"free 1795000060", Granted(is_first=False, last_sent_at=NOW)),
        (b"free 0x10", Granted(is_first=False)),
        (b"odd ", Doubted()),
        (b"odd 17.25", Doubted(17.25)),
        (b"lost", Granted(is_first=False, last_sent_at=NOW)),
        (b"reopened " + stored(FAILED), Granted(is_first=False, last_sent_at=NOW)),
        (b"reopened " + changed(body=1), Doubted()),
        (b"held " + b"f" * 32, ClaimedElsewhere("f" * 32)),
        (b"concluded " + stored(FAILED), Concluded(FAILED)),
        (b"concluded " + stored(DONE), Concluded(DONE)),
        (b"concluded f 1 0 {}", Unreadable(b"{}")),
        (b"what", Unavailable()),
        (b"", Unavailable()),
        (None, Unavailable()),
        (1, Unavailable()),
        (NoReply("away"), Unavailable()),
    ],
)
def test_what_a_reply_to_take_answers(reply: object, answer: object) -> None:
    """Every reply, and everything that is none."""
    assert records.read_take(reply, MIGRATION, NOW, is_remembered=True) == answer


def test_a_new_request_is_first_only_by_a_good_memory() -> None:
    """A Redis that may have forgotten the request does not make it the first."""
    assert records.read_take(b"new", MIGRATION, NOW, is_remembered=False) == Granted(is_first=False)


@given(st.sampled_from([b"free", b"odd", b"held", b"concluded", b"reopened", b""]), st.binary(max_size=60))
def test_no_reply_raises(word: bytes, rest: bytes) -> None:
    """For any content of Redis a take has an answer."""
    answer = records.read_take(word + b" " + rest, MIGRATION, NOW, is_remembered=True)
    assert isinstance(answer, ClaimAnswer | Doubted | Unreadable)


@pytest.mark.parametrize(
    "ending",
    [
        DONE,
        final_events.succeeded(MIGRATION, ENVELOPE, TaskCreated("i"), "adopted", NOW),
        *(
            final_events.failed(MIGRATION, ENVELOPE, reason, NOW)
            for reason in Reason
            if reason in final_events.MESSAGES
        ),
        final_events.failed(MIGRATION, ENVELOPE, Reason.UNRESOLVED, NOW, candidates=("i-1", "i-2") * 100),
        final_events.conflicting(MIGRATION, ENVELOPE, NOW),
        replace(DONE, journal=""),
    ],
)
def test_what_a_worker_writes_is_read(ending: Completed) -> None:
    """Every kind of ending comes back whole."""
    assert records.read_ending(stored(ending), MIGRATION, NOW) == ending


def test_an_ending_is_stored_as_json() -> None:
    """What is stored can be read by any JSON reader, the event in it as text."""
    record = json.loads(records.encode_ending(DONE))
    assert json.loads(record["body"])["instance_id"] == "é-1"


@pytest.mark.parametrize("name", [name for name, found in RECORDS_0_1_0.items() if "ending" in found])
def test_records_of_0_1_0_are_read_and_written_alike(name: str) -> None:
    """The records of 0.1.0 are read, and what is read is written again byte for byte."""
    found = RECORDS_0_1_0[name]
    request_id = name.removesuffix("}").partition("/")[2]
    migration = replace(MIGRATION, project_id="p", request_id=request_id, fingerprint=found["fingerprint"])
    text = " ".join(found[field] for field in ("fingerprint", "succeeded", "replays", "ending"))
    ending = records.read_ending(text.encode(), migration, NOW)
    assert ending is not None
    assert records.encode_ending(ending).decode() == found["ending"]


HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "journal of 300 kB": changed(journal="x" * 300_000),
    "journal a number": changed(journal=1),
    "event id a number": changed(event_id=7),
    "event id with spaces": changed(event_id="an event"),
    "event id too long": changed(event_id="e" * 300),
    "another request": changed(subject="r-2"),
    "no subject": changed(subject=None),
    "time in the future": changed(completed_at="2027-12-01T00:00:00.000Z"),
    "no time": changed(completed_at="yesterday"),
    "time a number": changed(completed_at=NOW),
    "success a text": changed(succeeded="no"),
    "success of a failure": changed(succeeded=True),
    "parked a number": changed(parked=0),
    "parked by one word of two": changed(parked=True),
    "replays a text": changed(replays="1"),
    "replays a truth": changed(replays=True),
    "replays of another": changed(replays=2),
    "replays below nought": changed(replays=-1),
    "other fingerprint": changed(fingerprint="e" * 32),
    "unknown reason": changed(reason="because"),
    "reason of another": changed(reason="expired"),
    "code too long": changed(error_code="c" * 5000),
    "code a list": changed(error_code=["c"]),
    "body an object": changed(body={}),
    "body no JSON": changed(body="{"),
    "body a list": changed(body="[]"),
    "body of another request": changed(body=event(request_id="r-2")),
    "body of another project": changed(body=event(project_id="p")),
    "body of another reason": changed(body=event(reason="expired")),
    "body without text": changed(body=event(message=None)),
    "half a character": changed(error_code="\ud800"),
    "half a character in the body": changed(body='{"a":"\ud800"}'),
    "truncated": changed()[:-20],
    "a list": b"%b 0 1 []" % MIGRATION.fingerprint.encode(),
    "null": b"%b 0 1 null" % MIGRATION.fingerprint.encode(),
    "a number": b"%b 0 1 1e999" % MIGRATION.fingerprint.encode(),
    "no UTF-8": b"%b 0 1 \xff\xfe" % MIGRATION.fingerprint.encode(),
    "deep": b"%b 0 1 %b" % (MIGRATION.fingerprint.encode(), b"[" * 60_000),
    "long number": b"%b 0 1 %b" % (MIGRATION.fingerprint.encode(), b"9" * 60_000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_worker_can_have_written_is_unreadable(name: str) -> None:
    """Wrong types, lengths and times, other requests, and what is no record at all."""
    assert records.read_ending(HOSTILE[name], MIGRATION, NOW) is None


def test_members_of_a_later_version_are_left_out() -> None:
    """What a later version adds does not make its endings unreadable; a journal of its own is dropped."""
    assert records.read_ending(changed(colour="green"), MIGRATION, NOW) == FAILED
    newer = changed(journal='{"since":"2026-11-26T00:00:00.000Z","entries":[{"at":0,"did":"danced"}]}')
    assert records.read_ending(newer, MIGRATION, NOW) == replace(FAILED, journal="")


def test_a_clock_a_little_ahead_of_ours_is_none_of_the_future() -> None:
    """A minute is allowed."""
    ahead = final_events.failed(MIGRATION, ENVELOPE, Reason.REJECTED, NOW + 59)
    assert records.read_ending(stored(ahead), MIGRATION, NOW) == ahead
    assert records.read_ending(stored(ahead), MIGRATION, NOW - 2) is None
    reopened = records.read_take(b"reopened " + stored(ahead), MIGRATION, NOW, is_remembered=True)
    assert reopened == Granted(is_first=False, last_sent_at=NOW)


@pytest.mark.parametrize(
    ("memory", "is_remembered"),
    [
        (b"1795000000.0", True),
        (b"1795000000.1", False),
        (b"1795009999", False),
        (b"1e30", False),
        (b"-1e30", False),
        (b"0", False),
        (b"nan", False),
        (b"inf", False),
        (b"?", False),
        (None, False),
        (NoReply("away"), False),
    ],
)
def test_how_long_redis_remembers(memory: object, is_remembered: bool) -> None:
    """The memory must be as old as is asked for; a missing or unreadable one, or one of before our time, is new."""
    assert records.is_remembered(memory, 1795000600.0, 600.0) is is_remembered


def test_a_memory_that_need_not_be_old() -> None:
    """Of nought seconds it is always there, also where the clock of Redis is ahead of ours."""
    assert records.is_remembered(b"1795000003", 1795000000.0, 0.0)
