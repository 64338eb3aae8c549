"""The envelope: state in headers, both ways, and what a sender may put there."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import names
from schemas.envelope import Envelope, is_parked_by_sender
from schemas.journal import EMPTY, Kind
from schemas.last_error import LastError
from schemas.timestamp import from_text, to_text

NOW = 1_790_000_000.0
FIRST = Envelope(0, 0, 1, 0, 0, NOW, None, is_repeat=False, is_redelivered=False)

counts = st.integers(0, 1_000_000)
moments = st.floats(0.0, NOW)
envelopes = st.builds(
    Envelope,
    attempts=counts,
    round=counts,
    deliveries=counts,
    interruptions=counts,
    replays=counts,
    first_received_at=moments,
    last_sent_at=st.none() | moments,
    is_repeat=st.booleans(),
    is_redelivered=st.booleans(),
    is_dated=st.booleans(),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.decimals()
    | st.floats(0, 4e9).map(to_text),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
headers = st.dictionaries(
    st.sampled_from([*sorted(names.STATE), names.DELIVERY_COUNT, "x-death", "x-note"]), values, max_size=6
)


def cut(seconds: float) -> float:
    """Return `seconds` as they come off the wire."""
    read = from_text(to_text(seconds))
    assert read is not None
    return read


def test_a_first_delivery_has_no_past() -> None:
    """Without state headers and without the broker's flag, it is the first delivery, and nothing was sent."""
    assert Envelope.read({"x-note": 1, "x-death": []}, redelivered=False, now=NOW) == FIRST


def test_the_brokers_count_is_not_believed_without_its_flag() -> None:
    """A delivery count on a first delivery is the sender's word."""
    assert Envelope.read({names.DELIVERY_COUNT: 1000}, redelivered=False, now=NOW) == FIRST


@settings(max_examples=60)
@given(envelopes)
def test_state_survives_the_wire(envelope: Envelope) -> None:
    """What one delivery writes the next one reads: the same counts and times, one delivery more, a repeat."""
    read = Envelope.read(envelope.write({}), redelivered=False, now=NOW)
    assert read == replace(
        envelope,
        deliveries=envelope.deliveries + 1,
        first_received_at=cut(envelope.first_received_at),
        last_sent_at=None if envelope.last_sent_at is None else cut(envelope.last_sent_at),
        is_repeat=True,
        is_redelivered=False,
    )


@settings(max_examples=60)
@given(envelopes, headers, st.booleans())
def test_no_header_does_harm(envelope: Envelope, forged: dict[str, object], redelivered: bool) -> None:
    """Whatever stands in the headers, reading and writing work, times are never in the future, counts never below 0."""
    read = Envelope.read(envelope.write({}) | forged, redelivered=redelivered, now=NOW)
    assert min(read.attempts, read.round, read.interruptions, read.replays) >= 0
    assert read.deliveries >= 1 + redelivered
    assert read.first_received_at <= NOW
    assert read.last_sent_at is None or read.last_sent_at <= NOW
    assert read.last_sent_at == NOW or not redelivered
    assert Envelope.read(read.write(forged), redelivered=False, now=NOW).is_repeat


@pytest.mark.parametrize("name", [names.ATTEMPTS, names.ROUND, names.DELIVERIES, names.INTERRUPTIONS, names.REPLAYS])
@pytest.mark.parametrize("value", [-1, 1_000_001, True, 1.0, "1", b"1", None, [1], {"a": 1}, Decimal(1)])
def test_a_count_that_cannot_be_read_counts_as_sent(name: str, value: object) -> None:
    """An unreadable count is 0, the rest is kept, and a create may have been sent just now."""
    envelope = Envelope.read({names.ROUND: 2, names.ATTEMPTS: 2} | {name: value}, redelivered=False, now=NOW)
    expected = {names.ROUND: envelope.round, names.ATTEMPTS: envelope.attempts}
    assert expected == {names.ROUND: 2, names.ATTEMPTS: 2} | {key: 0 for key in expected if key == name}
    assert (envelope.deliveries, envelope.interruptions, envelope.replays) == (1, 0, 0)
    assert (envelope.last_sent_at, envelope.is_repeat) == (NOW, True)


@pytest.mark.parametrize("name", [names.FIRST_RECEIVED_AT, names.LAST_SENT_AT])
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        True,
        b"x",
        "",
        "yesterday",
        "2026-01-01T00:00:00",
        datetime(2026, 1, 1, tzinfo=UTC),
        ["x"],
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_a_time_that_cannot_be_read_counts_as_sent(name: str, value: object) -> None:
    """An unreadable time is now, and a create may have been sent just now."""
    envelope = Envelope.read({name: value}, redelivered=False, now=NOW)
    assert (envelope.first_received_at, envelope.last_sent_at) == (NOW, NOW)


def test_a_time_in_the_future_is_now() -> None:
    """A clock that was ahead, or a lie, does not lead beyond the present."""
    ahead = to_text(NOW + 3600)
    envelope = Envelope.read({names.FIRST_RECEIVED_AT: ahead, names.LAST_SENT_AT: ahead}, redelivered=False, now=NOW)
    assert (envelope.first_received_at, envelope.last_sent_at) == (NOW, NOW)


@pytest.mark.parametrize(
    ("count", "broken"), [(None, 1), (0, 1), (1, 1), (4, 4), (-3, 1), ("9", 1), (True, 1), (2_000_000, 1)]
)
def test_a_redelivery_was_interrupted(count: object, broken: int) -> None:
    """With the broker's flag its own count is believed, is at least 1, and what it counts may still be in flight."""
    state = {names.DELIVERIES: 3, names.INTERRUPTIONS: 2, names.LAST_SENT_AT: to_text(NOW - 600)}
    envelope = Envelope.read(state | {names.DELIVERY_COUNT: count}, redelivered=True, now=NOW)
    assert (envelope.deliveries, envelope.interruptions) == (3 + broken + 1, 2 + broken)
    assert (envelope.is_redelivered, envelope.is_repeat, envelope.last_sent_at) == (True, True, NOW)


def test_a_redelivery_without_headers_is_a_repeat() -> None:
    """The broker's flag alone makes a repeat."""
    envelope = Envelope.read({}, redelivered=True, now=NOW)
    told = EMPTY.add(NOW, Kind.REDELIVERED, n=1)
    expected = Envelope(0, 0, 2, 1, 0, NOW, NOW, is_repeat=True, is_redelivered=True, is_dated=False, journal=told)
    assert envelope == expected


def test_a_copy_bears_nothing_of_the_brokers() -> None:
    """The sender's headers are kept, old state is replaced, and what the broker wrote or would act on is gone."""
    original = {
        "x-note": {"kept": [1]},
        names.TRACEPARENT: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        names.PARKED_REASON: "forbidden",
        names.ATTEMPTS: "forged",
        names.REPLAYS: "forged",
        names.LAST_SENT_AT: "forged",
        names.DELIVERY_COUNT: 3,
        "x-acquired-count": 3,
        "x-death": [{"count": 1}],
        "x-first-death-queue": "a",
        "x-last-death-reason": "expired",
        "CC": ["a"],
        "BCC": ["b"],
    }
    before = dict(original)
    assert FIRST.write(original) == {
        "x-note": {"kept": [1]},
        names.TRACEPARENT: original[names.TRACEPARENT],
        names.PARKED_REASON: "forbidden",
        names.ATTEMPTS: 0,
        names.ROUND: 0,
        names.DELIVERIES: 1,
        names.INTERRUPTIONS: 0,
        names.FIRST_RECEIVED_AT: to_text(NOW),
    }
    assert original == before


FORGED: dict[str, object] = {
    names.ATTEMPTS: 7,
    names.ROUND: 4,
    names.DELIVERIES: 50,
    names.INTERRUPTIONS: 100,
    names.REPLAYS: 1_000_000,
    names.FIRST_RECEIVED_AT: to_text(NOW - 1e8),
    names.MAY_BE_OLDER: True,
    names.LAST_SENT_AT: to_text(NOW),
    names.LAST_ERROR: LastError("forged", 409, is_conflict=True).text(),
    names.STAGE: names.FOLLOW_UP,
    names.TASK_ID: "i-1",
    names.JOB_ID: "j-1",
}
BESIDE: dict[str, object] = {
    names.JOURNAL: EMPTY.add(NOW, Kind.REPLAYED).text(),
    names.PARKED_REASON: "forbidden",
    names.PARKED_AT: to_text(NOW),
    "x-parked-by": "nobody",
    names.EXPIRATION: "1",
    names.USER_ID: "root",
}


@pytest.mark.parametrize("name", sorted(names.STATE))
def test_state_of_a_sender_only_makes_it_a_repeat(name: str) -> None:
    """Each state header alone, readable or not: looked for first, nothing else of it is believed."""
    for value in (FORGED[name], None, "unreadable"):
        read = Envelope.read({name: value} | BESIDE, redelivered=False, now=NOW, is_own_copy=False)
        assert (read, read.is_known_repeat) == (replace(FIRST, is_repeat=True), False)


def test_redelivered_state_of_a_sender_is_not_believed() -> None:
    """Only what the broker counts is: the same as for a redelivered message without headers."""
    counted: dict[str, object] = {names.DELIVERY_COUNT: 3}
    read = Envelope.read(FORGED | BESIDE | counted, redelivered=True, now=NOW, is_own_copy=False)
    assert read == Envelope.read(counted, redelivered=True, now=NOW, is_own_copy=False)
    assert (read.interruptions, read.last_sent_at) == (3, NOW)


@pytest.mark.parametrize("is_redelivered", [False, True])
def test_copy_of_a_senders_message_has_nothing_that_only_a_worker_writes(is_redelivered: bool) -> None:
    """Nor has one that came straight to the queue without any state header."""
    for state, is_own_copy in ((FORGED, False), ({}, False), ({}, True)):
        headers = state | BESIDE | {"x-note": 1}
        read = Envelope.read(headers, redelivered=is_redelivered, now=NOW, is_own_copy=is_own_copy)
        assert read.write(headers) == read.write({"x-note": 1})


def test_copy_of_a_copy_keeps_what_the_worker_wrote() -> None:
    """The sender's properties that a copy cannot have stay in their headers on the whole way."""
    headers = FIRST.write({}) | BESIDE
    written = Envelope.read(headers, redelivered=False, now=NOW).write(headers)
    assert {name: written[name] for name in BESIDE} == BESIDE


@pytest.mark.parametrize(
    ("deaths", "is_by_sender"),
    [
        (None, False),
        ([], False),
        ([{"queue": "q", "exchange": "", "reason": "delivery_limit"}], False),
        ([{"queue": "q.retry.10s", "exchange": "other", "reason": "expired"}], False),
        ([{"queue": "q", "exchange": "dcs.migration", "reason": "expired"}], True),
        ([{"queue": "q", "exchange": ""}, {"queue": "q", "exchange": "x"}], True),
        ([{"queue": "q"}], True),
        (
            [{"queue": "q", "exchange": "", "reason": "expired"}],
            True,
        ),  # a sender's own entry, which the broker counts up
        ([{"queue": "q", "exchange": "", "reason": "rejected"}], True),
        ("forged", True),
        ([7], True),
    ],
)
def test_message_dead_lettered_from_an_exchange_is_a_senders(deaths: object, is_by_sender: bool) -> None:
    """A copy of a worker is published straight to the queue, and carries no dead-lettering history."""
    headers = {} if deaths is None else {names.DEATHS: deaths}
    assert is_parked_by_sender(headers, "q") is is_by_sender
