"""The error table: what every documented answer of service and gateway proves, and whom it concerns."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    CallStatus,
    Condition,
    ConflictingTask,
    ErrorKind,
    ErrorScope,
    Evidence,
    LookupResult,
    NamedLimit,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.error_table import BY_CODE, UNKNOWN_TASK, normal_code

REFUSED, AMBIGUOUS, NEVER = Evidence.REFUSED, Evidence.AMBIGUOUS, Evidence.NEVER_SENT


def classify(status: int, code: str | None) -> tuple[Evidence, ErrorKind]:
    """Evidence and kind of an answer without a condition."""
    row = error_table.row(status, code)
    return row.evidence, row.kind


# DCS API reference, "Error Codes", and API Gateway user guide, "Error Codes", as far as a create call can meet them.
TABLE = (
    (400, "DCS", "4002 4004 4005 4062 4063 4800 4855", REFUSED, ErrorKind.REJECTED),
    (400, "DCS", "4013 4014 4016 4018 4020 4046 4048 4068 5050 4133", REFUSED, ErrorKind.REJECTED),
    (400, "DCS", "4035 4036 4039 4054 4911", REFUSED, ErrorKind.CAPACITY),
    (400, "DCS", "4017 4026 4049 4096 4097 4099 4104 4108 4111 4113 4114 4115 4116 4117", REFUSED, ErrorKind.RETRY),
    (400, "DCS", "4118 4120 4121 4231 4975", REFUSED, ErrorKind.RETRY),
    (401, "DCS", "1001 1002 1003 1004", REFUSED, ErrorKind.UNAUTHENTICATED),
    (401, "APIG", "0301 0305 0307", REFUSED, ErrorKind.UNAUTHENTICATED),
    (403, "DCS", "2003 2007 3002 3003", REFUSED, ErrorKind.FORBIDDEN),
    (403, "APIG", "0302 0306 0310 0402", REFUSED, ErrorKind.FORBIDDEN),
    (404, "DCS", "4001 3022", REFUSED, ErrorKind.NOT_FOUND),
    (404, "APIG", "0101", REFUSED, ErrorKind.NOT_FOUND),
    (404, "DCS", "5101", REFUSED, ErrorKind.RETRY),
    (405, "DCS", "5001", REFUSED, ErrorKind.NOT_FOUND),
    (405, "APIG", "0501 0502", REFUSED, ErrorKind.FORBIDDEN),
    (400, "APIG", "0104 0105 0106 0204 0205 0602 0607", REFUSED, ErrorKind.RETRY),
    (400, "CBC", "99003651", REFUSED, ErrorKind.RETRY),
    (423, "DCS", "4000", REFUSED, ErrorKind.RETRY),
    (425, "DCS", "4000", REFUSED, ErrorKind.RETRY),
    (413, "APIG", "0201", REFUSED, ErrorKind.REJECTED),
    (414, "APIG", "0201", REFUSED, ErrorKind.REJECTED),
    (494, "APIG", "0201", REFUSED, ErrorKind.REJECTED),
    (429, "APIG", "0308", REFUSED, ErrorKind.THROTTLED),
    (500, "DCS", "5000 5006 5031 5041 5070 4069", AMBIGUOUS, ErrorKind.RETRY),
    (500, "APIG", "0601", AMBIGUOUS, ErrorKind.RETRY),
    (502, "APIG", "0201 0610", AMBIGUOUS, ErrorKind.RETRY),
    (503, "APIG", "0613", REFUSED, ErrorKind.RETRY),
    (504, "APIG", "0201", AMBIGUOUS, ErrorKind.RETRY),
)


def spellings(family: str, number: str) -> Iterator[str]:
    """Yield every way in which a code is known to be written."""
    yield f"{family}.{number}"
    yield f" {family}. {number} "
    if family == "APIG":
        yield f"APIGW.{number}"
    elif family == "DCS" and number.startswith("4"):
        yield f"111400{number[1:]}"


ROWS = [
    (status, code, (evidence, remedy))
    for status, family, numbers, evidence, remedy in TABLE
    for number in numbers.split()
    for code in spellings(family, number)
]


@pytest.mark.parametrize(("status", "code", "verdict"), ROWS)
def test_a_documented_code_is_known(status: int, code: str, verdict: tuple[Evidence, ErrorKind]) -> None:
    """Every code of the table has its verdict, whichever way it is written."""
    assert classify(status, code) == verdict


def test_no_code_is_known_that_the_table_does_not_show() -> None:
    """Every exception that the code makes from the verdict of a status is in the table above."""
    assert set(BY_CODE) <= {(status, normal_code(code)) for status, code, _ in ROWS}


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, (AMBIGUOUS, ErrorKind.RETRY)),
        (302, (AMBIGUOUS, ErrorKind.RETRY)),
        (400, (REFUSED, ErrorKind.REJECTED)),
        (401, (REFUSED, ErrorKind.UNAUTHENTICATED)),
        (403, (REFUSED, ErrorKind.FORBIDDEN)),
        (404, (REFUSED, ErrorKind.NOT_FOUND)),
        (408, (AMBIGUOUS, ErrorKind.RETRY)),
        (409, (AMBIGUOUS, ErrorKind.RETRY)),
        (429, (REFUSED, ErrorKind.THROTTLED)),
        (499, (AMBIGUOUS, ErrorKind.RETRY)),
        (500, (AMBIGUOUS, ErrorKind.RETRY)),
        (503, (AMBIGUOUS, ErrorKind.RETRY)),
        (599, (AMBIGUOUS, ErrorKind.RETRY)),
    ],
)
@pytest.mark.parametrize("code", ["DCS.9999", "APIGW.9999", "111499999", "DCS.40171"])
def test_without_a_known_code_the_status_decides(
    status: int, code: str | None, verdict: tuple[Evidence, ErrorKind]
) -> None:
    """An answer with a code of the service that is not in the table has the verdict of its status."""
    assert classify(status, code) == verdict


@pytest.mark.parametrize("code", [None, "", "page not found", "SecurityGroupRuleExists", "IAM.0011"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 409, 418, 421, 423, 425, 426, 429, 451])
def test_answer_of_another_party_proves_nothing(status: int, code: str | None) -> None:
    """A proxy's page says neither that DCS did not act nor anything about request, project or credentials."""
    row = error_table.row(status, code)
    expected = {429: (REFUSED, ErrorScope.REGION), 409: (AMBIGUOUS, ErrorScope.REQUEST)}
    assert (row.evidence, row.scope) == expected.get(status, (AMBIGUOUS, ErrorScope.SERVICE))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_code_counts_only_with_its_status(status: int) -> None:
    """A code that means `busy` with a 400 says nothing of the kind with another status."""
    assert classify(status, "DCS.4017") == classify(status, "DCS.9999")


@pytest.mark.parametrize(
    ("code", "known"),
    [
        (None, None),
        ("DCS. 4855", "DCS.4855"),
        ("APIGW.0308", "APIG.0308"),
        ("111400133", UNKNOWN_TASK),
        ("111500133", "111500133"),
        ("dcs.4133", "dcs.4133"),
        (" anything ", "anything"),
    ],
)
def test_a_code_has_one_spelling(code: str | None, known: str | None) -> None:
    """Prefixes, twins and blanks are evened out; what follows no known form is left as it is."""
    assert normal_code(code) == known


@given(st.integers(0, 999), st.none() | st.text(max_size=12) | st.sampled_from([code for _, code, _ in ROWS]))
def test_only_an_answer_that_refuses_proves_that_nothing_was_done(status: int, code: str | None) -> None:
    """No answer counts as never sent, and no 5xx, 2xx or 3xx as refused but the one that never got past the door."""
    evidence, _ = classify(status, code)
    assert evidence in (REFUSED, AMBIGUOUS)
    if not 400 <= status < 500 and (status, normal_code(code)) != (503, "APIG.0613"):
        assert evidence is AMBIGUOUS


def answered(http_status: int, code: str, kind: ErrorKind) -> CallError:
    """A refusal with a code."""
    return CallError(REFUSED, kind, CallStatus.ANSWERED, http_status=http_status, error_code=code)


def throttled(condition: Condition | None) -> CallError:
    """A 429 whose text names a limit, or nothing."""
    throttle = NamedLimit(5, 1.0) if condition else None
    status = CallStatus.ANSWERED
    return CallError(REFUSED, ErrorKind.THROTTLED, status, http_status=429, condition=condition, throttle=throttle)


@pytest.mark.parametrize(
    "ending", [TaskCreated("i"), TaskFound("i"), TaskNotFound(), SeveralTasks(("i", "j")), ConflictingTask(("i",))]
)
def test_success_concerns_the_request_alone(ending: TaskCreated | LookupResult) -> None:
    """A success, and what a look-up saw, says nothing bad of any other party."""
    assert error_table.scope(ending) is ErrorScope.REQUEST


@pytest.mark.parametrize(
    ("fault", "whom"),
    [
        (CallError(NEVER, ErrorKind.RETRY, CallStatus.CONNECTION_REFUSED), ErrorScope.SERVICE),
        (CallError(NEVER, ErrorKind.RETRY, CallStatus.IAM_UNAVAILABLE), ErrorScope.SERVICE),
        (CallError(AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT), ErrorScope.SERVICE),
        (CallError(AMBIGUOUS, ErrorKind.RETRY, CallStatus.RESET), ErrorScope.SERVICE),
        (CallError(AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=500), ErrorScope.SERVICE),
        (CallError(AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=200), ErrorScope.SERVICE),
        (answered(503, "APIG.0613", ErrorKind.RETRY), ErrorScope.SERVICE),
        (CallError(NEVER, ErrorKind.RETRY, CallStatus.STALE), None),
        (CallError(NEVER, ErrorKind.RETRY, CallStatus.FROZEN), None),
        (
            CallError(REFUSED, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=400, error_code="DCS.4026"),
            ErrorScope.REQUEST,
        ),
        (CallError(REFUSED, ErrorKind.RETRY, CallStatus.INCOMPLETE_LIST), ErrorScope.REQUEST),
        (answered(400, "DCS.4013", ErrorKind.REJECTED), ErrorScope.REQUEST),
        (answered(404, "DCS.3022", ErrorKind.NOT_FOUND), ErrorScope.REQUEST),
        (CallError(REFUSED, ErrorKind.UNAUTHENTICATED, CallStatus.ANSWERED, http_status=401), ErrorScope.CREDENTIALS),
        (CallError(NEVER, ErrorKind.RETRY, CallStatus.NO_CREDENTIALS), ErrorScope.CREDENTIALS),
        (
            CallError(NEVER, ErrorKind.UNAUTHENTICATED, CallStatus.NO_CREDENTIALS, http_status=401),
            ErrorScope.CREDENTIALS,
        ),
        (answered(403, "DCS.2003", ErrorKind.FORBIDDEN), ErrorScope.PROJECT),
        (answered(404, "APIGW.0101", ErrorKind.NOT_FOUND), ErrorScope.REGION),
        (answered(404, "DCS.4001", ErrorKind.NOT_FOUND), ErrorScope.REGION),
        (answered(405, "DCS.5001", ErrorKind.NOT_FOUND), ErrorScope.REGION),
        (throttled(None), ErrorScope.REGION),
        (throttled(Condition.REGION_THROTTLED), ErrorScope.REGION),
        (throttled(Condition.PROJECT_THROTTLED), ErrorScope.PROJECT),
    ],
)
def test_scope_of_an_error(fault: CallError, whom: ErrorScope | None) -> None:
    """Silence and failures concern the service; refusals of one request do not; a throttle never does."""
    assert error_table.scope(fault) is whom


@pytest.mark.parametrize(
    ("code", "whom"),
    [
        ("DCS.4035", ErrorScope.PROJECT),
        ("111400036", ErrorScope.PROJECT),
        ("DCS. 4039", ErrorScope.PROJECT),
        ("DCS.4054", ErrorScope.REQUEST),
        ("DCS.4911", ErrorScope.REQUEST),
    ],
)
def test_scope_of_a_full_quota(code: str, whom: ErrorScope | None) -> None:
    """Quotas belong to the project; the request chose a zone or a subnet itself."""
    assert error_table.scope(answered(400, code, ErrorKind.CAPACITY)) is whom


@pytest.mark.parametrize("status", CallStatus)
def test_every_status_without_answer_has_a_scope_or_says_nothing(status: CallStatus) -> None:
    """The table has a row for every way in which a call can end without an answer."""
    assert (status in error_table.WITHOUT_ANSWER) is (status is not CallStatus.ANSWERED)


@pytest.mark.parametrize("condition", Condition)
@given(st.integers(100, 999), st.none() | st.sampled_from([code for _, code, _ in ROWS]))
def test_no_condition_makes_an_ambiguous_answer_a_proof(condition: Condition, status: int, code: str | None) -> None:
    """Only status and code prove that nothing was done; a text never does."""
    assert error_table.row(status, code, condition).evidence is error_table.row(status, code).evidence


PROBES: dict[str, TaskNotFound | CallError] = {
    "answered": TaskNotFound(),
    "outage": CallError(AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT),
    "throttled": throttled(None),
    "key": answered(401, "APIGW.0301", ErrorKind.UNAUTHENTICATED),
    "endpoint": answered(404, "APIGW.0101", ErrorKind.NOT_FOUND),
    "project": answered(403, "DCS.2003", ErrorKind.FORBIDDEN),
    "never sent": CallError(NEVER, ErrorKind.RETRY, CallStatus.FROZEN),
    "no key": CallError(NEVER, ErrorKind.RETRY, CallStatus.NO_CREDENTIALS),
}


@pytest.mark.parametrize(
    ("scope", "refused", "unclear"),
    [
        (ErrorScope.SERVICE, {"outage"}, {"never sent", "no key"}),
        (ErrorScope.CREDENTIALS, {"key", "no key"}, {"outage", "throttled", "endpoint", "never sent"}),
        (ErrorScope.REGION, {"endpoint"}, {"outage", "throttled", "never sent", "no key"}),
    ],
)
def test_result_of_a_probe(scope: ErrorScope, refused: set[str], unclear: set[str]) -> None:
    """It refuses what it concerns, accepts what it got past, and says nothing about what it did not reach."""
    found = {name: error_table.is_probe_refused(result, (scope,)) for name, result in PROBES.items()}
    assert {name for name, result in found.items() if result} == refused
    assert {name for name, result in found.items() if result is None} == unclear


@pytest.mark.parametrize(
    ("status", "code", "is_known"),
    [(400, "DCS.4013", True), (400, "111400013", True), (400, "DCS.4872", False), (400, "APIGW.0199", False)],
)
def test_rejection_by_an_unknown_code_is_told_apart(status: int, code: str, is_known: bool) -> None:
    """It may be a defect of the service, so that an operator has to be able to replay the request."""
    assert error_table.row(status, code).kind is ErrorKind.REJECTED
    assert error_table.is_known_code(answered(status, code, ErrorKind.REJECTED)) is is_known


def test_locked_key_is_left_alone_for_five_minutes() -> None:
    """Also without a header that says so; a header beats it."""
    locked = CallError(
        REFUSED, ErrorKind.UNAUTHENTICATED, CallStatus.ANSWERED, http_status=401, condition=Condition.KEY_LOCKED
    )
    assert error_table.asked_wait(locked) == 300.0
    assert error_table.asked_wait(replace(locked, retry_after=400.0)) == 400.0
