"""Counts of distinct parked requests."""

from schemas import names
from tests.unit.cli.parked.parked_messages import BODY, HEADERS, parked_request
from worker.cli.parked.listing import ParkedGroups, RequestCount

LATER = "2026-11-01T10:00:00.000Z"


def test_copies_of_a_request_count_once() -> None:
    """The number of messages is known too; another project's request with the same id is another request."""
    groups = ParkedGroups()
    other_project = BODY.replace(b'"p"', b'"q"')
    for request in (parked_request(), parked_request(headers={**HEADERS, names.PARKED_AT: LATER})):
        groups.add(request)
    groups.add(parked_request(other_project, headers={**HEADERS, names.PARKED_REASON: "forbidden"}))

    assert groups.as_json() == {
        "requests": 2,
        "messages": 3,
        "groups": [
            _group("exhausted", 1, 2, "2026-11-01T09:00:00.000Z", LATER),
            _group("forbidden", 1, 1, "2026-11-01T09:00:00.000Z", "2026-11-01T09:00:00.000Z"),
        ],
    }
    assert [line.split()[:3] for line in groups.table().splitlines()[1:3]] == [
        ["exhausted", "-", "1"],
        ["forbidden", "-", "1"],
    ]
    assert groups.table().endswith("\n\n3 messages, 1 of them copies of another parked message.")
    assert str(groups.total) == "2 (3 messages)"


def test_request_in_two_groups_is_one_request_in_all() -> None:
    """Each group counts it."""
    groups = ParkedGroups()
    groups.add(parked_request())
    groups.add(parked_request(headers={**HEADERS, names.PARKED_REASON: "forbidden"}))

    assert [group["requests"] for group in groups.as_json()["groups"]] == [1, 1]
    assert len(groups.total) == 1


def test_requests_without_copies_are_just_a_number() -> None:
    """Nothing is said of messages."""
    count = RequestCount()
    for number in range(1000):
        count.add(parked_request(BODY.replace(b'"r"', b'"r%d"' % number), headers={}))

    assert (str(count), count.oldest) == ("1,000", None)


def _group(reason: str, requests: int, messages: int, oldest: str, newest: str) -> dict[str, object]:
    counts = {"requests": requests, "messages": messages, "oldest": oldest, "newest": newest}
    return {"reason": reason, "error_code": None, **counts}
