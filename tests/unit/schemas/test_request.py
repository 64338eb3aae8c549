"""Reading requests: what a refusal says, and what a sender can build."""

import gzip
import json
import tracemalloc
import zlib
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import identity
from schemas.request import MARKED, REPEATED, InvalidRequestError, Request, Sender, Task, Violation, parse
from schemas.violations import VIOLATIONS_LISTED
from tests.malformed_bodies import TASK
from tests.malformed_messages import GOOD, MAX_BYTES


def refusal(body: bytes, max_bytes: int = MAX_BYTES) -> InvalidRequestError:
    """Return the error that reading `body` ends with."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize("field", list(GOOD))
def test_a_refusal_never_echoes_a_value(field: str) -> None:
    """A violation names field and rule, never the value, which may be a secret put in the wrong place."""
    for value in ("s3cret/../", {"s3cret": 1}, ["s3cret"]):
        error = refusal(json.dumps(GOOD | {field: value} if field != "task" else GOOD | {"task": [value]}).encode())
        assert "s3cret" not in str(error).replace("task.s3cret", "")


def test_a_refusal_is_not_endless() -> None:
    """Of a thousand faults twenty are listed, and a long name is cut."""
    error = refusal(json.dumps(GOOD | {f"{number}-{'x' * 100}": 1 for number in range(1000)}).encode(), 10 * MAX_BYTES)
    assert len(error.violations) == VIOLATIONS_LISTED == 20
    assert {len(violation.field) for violation in error.violations} == {64}


def test_a_refusal_says_all_that_is_wrong_in_one_line() -> None:
    """The error's own text joins its violations."""
    assert str(refusal(b'{"project_id": "a/b"}')) == "project_id: must be 1 to 64 of A-Z a-z 0-9 _ -; task: is missing"


WHOLE = Sender("hostile", "0123456789abcdef0123456789abcdef", "cn-north-4", "dcs-migration-thrc")


@pytest.mark.parametrize(
    ("body", "sender", "is_addressed"),
    [
        (json.dumps(GOOD | {"urgent": True}).encode(), WHOLE, True),
        (b'{"request_id": "a b", "project_id": 5, "region": null, "task": {"name": ""}}', Sender(), True),
        (b'{"request_id": "a", "task": "b"}', Sender(request_id="a"), True),
        (b'["request_id"]', Sender(), False),
        (b'{"request_id": "a"', Sender(), False),
    ],
)
def test_the_sender_is_named_as_far_as_it_can_be(body: bytes, sender: Sender, is_addressed: bool) -> None:
    """Identity fields that are well formed by themselves are told, the rest are not."""
    error = refusal(body)
    assert error.sender == sender
    assert error.is_addressed is is_addressed


def test_a_body_of_exactly_the_limit_is_read() -> None:
    """The limit is the largest size allowed."""
    body = json.dumps(GOOD).encode()
    assert parse(body, max_bytes=len(body)).project_id == GOOD["project_id"]
    assert refusal(body, len(body) - 1).violations == (
        Violation(field="body", message=f"is {len(body)} bytes long, more than the {len(body) - 1} allowed"),
    )


@pytest.mark.parametrize(
    ("body", "request_id", "is_addressed"),
    [
        (b'{"request_id": "a"}', "a", True),
        (b'{"request_id": "a"', None, False),
        (b'["request_id", 1]', None, False),
        (b"null              ", None, False),
        (b'{"request_id": "a"}'.ljust(40), "a", True),
        (b'  {"request_id": "a"}'.ljust(41), None, True),
        (b'  ["request_id", "a"]'.ljust(100), None, False),
    ],
)
def test_a_body_that_is_too_large_is_read_for_its_sender(
    body: bytes, request_id: str | None, is_addressed: bool
) -> None:
    """Up to four times the limit the sender is looked for; beyond that only whether an object seems to begin."""
    error = refusal(body, 10)
    assert error.sender == Sender(request_id=request_id)
    assert error.is_addressed is is_addressed


def test_a_sender_can_build_a_request() -> None:
    """A service that imports the models builds a request from values, and what it then sends is read."""
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    request = Request(project_id="a", not_after=moment, task=Task(**TASK))
    body = request.model_dump_json(exclude_none=True).encode()
    assert parse(body, max_bytes=MAX_BYTES) == request
    assert request.not_after == moment


@pytest.mark.parametrize("moment", [datetime(2026, 12, 1), 5, "20261201"])  # noqa: DTZ001 - refused for just that
def test_a_sender_cannot_build_a_vague_time(moment: Any) -> None:
    """A time without an offset, a number or a text of another form is no `not_after`, from Python either."""
    with pytest.raises(ValueError, match="not_after"):
        Request(project_id="a", not_after=moment, task=Task(**TASK))


TEXT = json.dumps(GOOD)
ENCODED = TEXT.encode()


@pytest.mark.parametrize(
    ("body", "content_encoding", "words"),
    [
        (gzip.compress(ENCODED), None, "is compressed (gzip)"),
        (zlib.compress(ENCODED), None, "is compressed (deflate)"),
        (TEXT.encode("utf-16"), None, "is text in UTF-16"),
        (TEXT.encode("utf-16-be"), None, "is text in UTF-16"),
        (TEXT.encode("utf-16-le"), "gzip", "is compressed (gzip)"),
        (TEXT.encode("utf-32-le"), None, "is text in UTF-32"),
        (b"\0\x53\x77\xb1" + len(ENCODED).to_bytes(4) + ENCODED, None, "is an AMQP 1.0 value"),
        (b"\0\x53\x77\xb0" + len(ENCODED).to_bytes(4) + ENCODED, None, "is an AMQP 1.0 value"),
        (b64encode(ENCODED), None, "is in base64"),
        (urlsafe_b64encode(ENCODED + b"   "), None, "is in base64"),
        (json.dumps(TEXT).encode(), None, "is text that holds the JSON"),
        (TEXT.replace("task", "t\x00sk").encode(), None, "is not JSON in UTF-8"),
        (b"\x0b\x02\x80{}\x03", "br", "is compressed (br)"),
        (b"\x1f\x8b broken", None, "is compressed (gzip)"),
        (b"\0\x53\x76\xa1\x01a broken", None, "is an AMQP 1.0 value"),
        (b"no JSON", "\x7f evil", "is not JSON in UTF-8"),
        (b"no JSON", "utf-8", "is not JSON in UTF-8"),
    ],
)
def test_a_body_in_another_form_is_named(body: bytes, content_encoding: str | None, words: str) -> None:
    """The form is named in words, and the sender is read where the form can be undone."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, max_bytes=MAX_BYTES, content_encoding=content_encoding)
    (violation,) = caught.value.violations
    assert violation.field == "body"
    assert violation.message.startswith(words)
    is_readable = content_encoding is None and "broken" not in repr(body) and "not JSON" not in words
    assert caught.value.sender == (WHOLE if is_readable else Sender())
    assert caught.value.is_addressed is is_readable


def test_a_small_body_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    """A few hundred bytes are unpacked up to a limit, and no further."""
    tracemalloc.start()
    error = refusal(gzip.compress(b" " * 50_000_000)[:MAX_BYTES])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not error.is_addressed
    assert peak < 60_000_000 + 2_000_000  # the test's own text, and what was unpacked of it


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_ids_are_read_in_any_encoding_that_holds_ascii(encoding: str) -> None:
    """The refusal of a text in the encoding of a Windows machine is addressed to its sender."""
    task = TASK | {"description": "Gr\u00f6\u00dfe"}
    error = refusal(json.dumps(GOOD | {"task": task}, ensure_ascii=False).encode(encoding))
    assert error.violations[0].message.startswith("is not JSON in UTF-8")
    assert (error.is_addressed, error.sender) == (True, WHOLE)


@pytest.mark.parametrize("content_encoding", [None, "", "utf-8", "identity", "gzip"])
def test_what_can_be_read_is_read(content_encoding: str | None) -> None:
    """A byte order mark is no part of the text; a wrong `content_encoding` alone harms nothing."""
    for body in (ENCODED, b"\xef\xbb\xbf" + ENCODED):
        assert parse(body, max_bytes=MAX_BYTES, content_encoding=content_encoding).request_id == "hostile"


def test_null_means_left_out() -> None:
    """For optional fields only, at both levels, and the request is the same; it can be built so, too."""
    task = TASK | {"description": None}
    nulls = {"request_id": None, "region": None, "not_after": None, "project_id": "a", "task": task}
    request = parse(json.dumps(nulls).encode(), max_bytes=MAX_BYTES)
    bare = Request(project_id="a", task=Task(**{name: value for name, value in task.items() if value is not None}))
    assert request == bare == Request(request_id=None, region=None, not_after=None, project_id="a", task=request.task)
    assert identity.request_id("a", "r", request.task) == identity.request_id("a", "r", bare.task)
    for body in (b'{"region": null, "region": null, ', b'{"region": "x", "region": null, '):
        assert refusal(body + json.dumps({"project_id": "a", "task": TASK}).encode()[1:]).violations == (
            Violation(field="region", message=REPEATED),
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"projectId": "a"}, "projectId: is not a known field; did you mean project_id?"),
        ({"vpc_id": "v"}, "vpc_id: is not a known field; did you mean task.vpc_id?"),
        ({"task": TASK | {"VPC-ID": "v"}}, "task.VPC-ID: is not a known field; did you mean vpc_id?"),
        (
            {"task": TASK | {"security_group": "v"}},
            "task.security_group: is not a known field; did you mean security_group_id?",
        ),
        ({"urgent": True}, "urgent: is not a known field"),
    ],
)
def test_a_name_that_resembles_a_field_is_asked_about(changes: dict[str, object], said: str) -> None:
    """In camel case, of another style, misspelt, or at the wrong level; what resembles nothing is only unknown."""
    assert str(refusal(json.dumps(GOOD | changes).encode())) == said


def test_a_misspelt_field_is_not_missing_as_well() -> None:
    """One sentence for each mistake."""
    task = {"vpcId" if name == "vpc_id" else name: value for name, value in TASK.items()}
    assert str(refusal(json.dumps(GOOD | {"task": task}).encode())) == (
        "task.vpcId: is not a known field; did you mean vpc_id?"
    )


@pytest.mark.parametrize("name", [" a", "a ", "a\t", "a\u3000", "\u00a0a", "a\nb", "a\x7fb", "a\x85b", " ", "\0"])
def test_a_name_that_the_service_may_change_is_refused(name: str) -> None:
    """A task is recognised by its name: blanks at the ends and control characters may not survive."""
    error = refusal(json.dumps(GOOD | {"task": TASK | {"name": name}}).encode())
    rule = "must not begin or end with a blank, nor contain control characters"
    assert error.violations == (Violation(field="task.name", message=rule),)


@pytest.mark.parametrize("name", ["a", "a b", "迁移 任务", "a\u3000b", "🚀", "#rq-3e09871bec2a4f75", "-", "x" * 1024])
def test_other_names_are_taken(name: str) -> None:
    """Blanks inside, any script, and what looks like a marker but stands in the name."""
    assert parse(json.dumps(GOOD | {"task": TASK | {"name": name}}).encode(), max_bytes=MAX_BYTES).task.name == name


@pytest.mark.parametrize(
    "description",
    [
        "mine #rq-3e09871bec2a4f75",
        "#rq-3e09871bec2a4f75",
        "a #rq-3e09871bec2a4f75 b",
        "#RQ-3E09871BEC2A4F75",
        "&#35;rq-3e09871bec2a4f75",
        "&amp;#35;rq-3e09871bec2a4f75",
        "#rq&#45;3e09871bec2a4f75",
        "&num;r&#113;-3e09871bec2a4f75",
        "#rq-3e09871bec2a4f7\u00e9",
    ],
)
def test_a_description_with_a_marker_is_refused(description: str) -> None:
    """It would claim the task of another request, in whatever form the service shows it."""
    error = refusal(json.dumps(GOOD | {"task": TASK | {"description": description}}).encode())
    assert error.violations == (Violation(field="task.description", message=MARKED),)


@pytest.mark.parametrize("description", ["#rq-", "rq-3e09871bec2a4f75", "#rq-3e09871bec2a4f7", "#rq-3e09871bec2a4f7g"])
def test_a_description_with_less_than_a_marker_is_taken(description: str) -> None:
    """What is no marker claims nothing."""
    parse(json.dumps(GOOD | {"task": TASK | {"description": description}}).encode(), max_bytes=MAX_BYTES)
