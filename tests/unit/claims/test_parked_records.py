"""Reading the record of a request as a command: what each state of it means. Deleting is tested with a real Redis."""

import time
from collections.abc import Sequence

import pytest

from schemas.envelope import Envelope
from tests.unit.claims.sample_migration import MIGRATION
from tests.unit.claims.small_redis import answering, bulk, listening, stay_silent
from worker.claims import parked_records, records
from worker.claims.parked_records import RequestRecord, read_record
from worker.pipeline import final_events
from worker.policy.call_result import TaskCreated
from worker.policy.outcome import ClaimsAwayError

NOW = time.time()
ENVELOPE = Envelope(1, 0, 1, 0, 1, NOW - 3, None, False, False)
DONE = final_events.succeeded(MIGRATION, ENVELOPE, TaskCreated("i-1", "j-1"), "created", NOW)
ENDING = records.encode_ending(DONE)
FINGERPRINT = MIGRATION.fingerprint.encode()
TOKEN = b"0123456789abcdef-1"


def _milliseconds(after: float) -> bytes:
    return b"%d" % ((NOW + after) * 1000)


async def _read(*values: bytes | None) -> tuple[RequestRecord | None, list[list[bytes]]]:
    """What is read from a Redis whose record has these fields; and the commands that it got."""
    asked: list[list[bytes]] = []

    def answer(parts: Sequence[bytes]) -> bytes:
        asked.append(list(parts))
        if parts[0] == b"TIME":
            return b"*2\r\n" + bulk(b"%d" % NOW) + bulk(b"0")
        fields = (*values, *([None] * (7 - len(values))))
        return b"*7\r\n" + b"".join(b"$-1\r\n" if value is None else bulk(value) for value in fields)

    async with listening(answering(answer)) as url:
        return await read_record(url, MIGRATION, NOW), asked


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ((), None),
        ((FINGERPRINT, ENDING, b"1", b"1"), RequestRecord(DONE, "ended")),
        ((FINGERPRINT, b"{}", b"1", b"0"), RequestRecord(None, "not readable")),
        ((FINGERPRINT, None, None, b"0", TOKEN, _milliseconds(20)), RequestRecord(None, "claimed")),
        ((FINGERPRINT, None, None, b"0", TOKEN, _milliseconds(-5)), RequestRecord(None, "claim expired")),
        ((FINGERPRINT, None, None, b"0"), RequestRecord(None, "released")),
        ((FINGERPRINT, None, None, b"0", None, None, b"17.25"), RequestRecord(None, "released", 17.25)),
        ((FINGERPRINT, None, None, b"0", TOKEN, b"soon"), RequestRecord(None, "not readable")),
    ],
)
async def test_record_is_its_outcome_or_the_state_of_its_claim(
    fields: tuple[bytes | None, ...], record: RequestRecord | None
) -> None:
    """Only commands that read are sent."""
    found, asked = await _read(*fields)

    assert found == record
    assert {parts[0] for parts in asked} == {b"HMGET", b"TIME"}


async def test_redis_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a URL that cannot be read; the text does not repeat it."""
    monkeypatch.setattr(parked_records, "TIMEOUT_SECONDS", 0.2)
    async with listening(stay_silent) as url:
        with pytest.raises(ClaimsAwayError, match="does not answer in time"):
            await read_record(url, MIGRATION, NOW)
    with pytest.raises(ClaimsAwayError, match="the URL has an option") as raised:
        await read_record("redis://:hunter2@host/0?unknown=1", MIGRATION, NOW)
    assert "hunter2" not in str(raised.value)
