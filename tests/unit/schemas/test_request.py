"""Reading requests: what a refusal says, and what a sender can build."""

import gzip
import json
import time
import tracemalloc
import zlib
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import identity
from schemas.request import MARKED, REPEATED, InvalidRequestError, Request, Sender, Task, Violation, parse
from schemas.timestamp import from_text
from schemas.unreadable import HALVED, NOT_UTF8
from schemas.violations import TIME, VIOLATIONS_LISTED
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
MARK = b"\xef\xbb\xbf"
HALF = "Umzug \ud83d"


def refusal_of(content: object) -> InvalidRequestError:
    """Return the error that reading `content`, as JSON, ends with."""
    return refusal(json.dumps(content).encode())


def raw_deflate(body: bytes) -> bytes:
    """Compress without a header, as .NET's DeflateStream does."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("body", "content_encoding", "words"),
    [
        (gzip.compress(ENCODED), None, "is compressed (gzip)"),
        *((zlib.compress(ENCODED, level), None, "is compressed (deflate)") for level in (1, 5, 6, 9)),
        (raw_deflate(ENCODED), "deflate", "is compressed (deflate)"),
        (b"hello world", "GZIP", "is compressed (gzip)"),
        (TEXT.encode("utf-16"), None, "is text in UTF-16"),
        (TEXT.encode("utf-16-be"), None, "is text in UTF-16"),
        (TEXT.encode("utf-16-le"), "gzip", "is text in UTF-16"),
        (TEXT.encode("utf-32-le"), None, "is text in UTF-32"),
        (MARK + MARK + ENCODED, None, "has a byte order mark that is not at its beginning"),
        (b"\n" + MARK + ENCODED, None, "has a byte order mark that is not at its beginning"),
        (ENCODED.replace(b', "task"', b", " + MARK + b'"task"'), None, "has a byte order mark that is not at its"),
        (b"\0\x53\x77\xb1" + len(ENCODED).to_bytes(4) + ENCODED, None, "is an AMQP 1.0 value"),
        (b"\0\x53\x77\xb0" + len(ENCODED).to_bytes(4) + ENCODED, None, "is an AMQP 1.0 value"),
        (b64encode(ENCODED), None, "is in base64"),
        (urlsafe_b64encode(ENCODED + b"   "), None, "is in base64"),
        (encodebytes(ENCODED), None, "is in base64"),
        (json.dumps(b64encode(ENCODED).decode()).encode(), None, "is text that holds the JSON"),
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
    is_readable = b"{}" not in body and b"broken" not in body and b"hello" not in body and "not JSON" not in words
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
    """The refusal of a text in the encoding of a Windows machine is addressed to its sender, and names the fields."""
    task = TASK | {"description": "Gr\u00f6\u00dfe"}
    error = refusal(json.dumps(GOOD | {"task": task}, ensure_ascii=False).encode(encoding))
    body, field = error.violations
    assert body.message.startswith("is not JSON in UTF-8")
    assert field == Violation(field="task.description", message=NOT_UTF8)
    assert (error.is_addressed, error.sender) == (True, WHOLE)
    named = refusal(
        json.dumps(GOOD | {"task": TASK | {"name": "Gr\u00f6\u00dfe"}}, ensure_ascii=False).encode(encoding)
    )
    assert named.sender == replace(WHOLE, name=None)  # it was not read: the event shows no other name


@pytest.mark.parametrize("content_encoding", [None, "gzip"])
@pytest.mark.parametrize("field", [*GOOD, "urgent", *(f"task.{name}" for name in TASK), "task.urgent"])
def test_half_a_character_is_named_in_its_field(field: str, content_encoding: str | None) -> None:
    """At both levels, in known and unknown fields, also within lists; the rest of the identity is read."""
    for value in (HALF, [HALF], {"a": {HALF: 1}}):
        if field == "task" and not isinstance(value, str):
            continue
        _, is_inside, name = field.rpartition("task.")
        content = GOOD | ({"task": TASK | {name: value}} if is_inside else {field: value})
        with pytest.raises(InvalidRequestError) as caught:
            parse(json.dumps(content).encode(), max_bytes=MAX_BYTES, content_encoding=content_encoding)
        assert caught.value.violations == (Violation(field=field, message=HALVED),)
        unread = {"task": "name", "task.name": "name"}.get(field, field)
        assert caught.value.sender == replace(WHOLE, **{unread: None} if hasattr(WHOLE, unread) else {})
        assert caught.value.is_addressed


def test_half_a_character_in_a_name_is_named() -> None:
    """The field cannot be named, so its level is."""
    for content, field in ((GOOD | {HALF: 1}, "body"), (GOOD | {"task": TASK | {HALF: 1}}, "task")):
        error = refusal_of(content)
        assert error.violations[0] == Violation(field=field, message=HALVED)
        assert (error.sender, error.is_addressed) == (WHOLE, True)


@pytest.mark.parametrize(
    ("body", "first"),
    [
        (gzip.compress(TEXT.replace("vpc_id", "vpcId").encode()), "body: is compressed"),
        (TEXT.replace("vpc_id", "vpcId").encode("utf-16"), "body: is text in UTF-16"),
        (json.dumps(TEXT.replace("vpc_id", "vpcId")).encode(), "body: is text that holds the JSON"),
        (TEXT.replace("vpc_id", "vpcId").replace("Creating", "\\ud83d").encode(), "task.description: contains half"),
        (
            TEXT.replace("vpc_id", "vpcId").replace('"hostile"', "9" * 5000).encode(),
            "body: is JSON that cannot be read",
        ),
    ],
)
def test_form_and_fields_are_named_at_once(body: bytes, first: str) -> None:
    """Who sends the same in another form need not send it twice to learn of the rest."""
    said = str(refusal(body))
    assert said.startswith(first)
    assert "task.vpcId: is not a known field; did you mean vpc_id?" in said


@pytest.mark.parametrize("deep", ["[" * 20_000 + "]" * 20_000, '{"a":' * 9_000 + '"]}\\""' + "}" * 9_000])
def test_an_object_of_any_depth_is_answered(deep: str) -> None:
    """It is a JSON object, so it is not parked: its sender is read, and the field is named if it is one."""
    error = refusal(TEXT.replace('"5e37b3be-950a-48e1-b498-65b63d336481"', deep).encode(), 10 * MAX_BYTES)
    assert (error.is_addressed, error.sender) == (True, WHOLE)
    assert [violation.field for violation in error.violations] == ["body", "task.vpc_id"]
    assert "recursion limit exceeded" in error.violations[0].message


def test_a_depth_at_which_the_stack_ends_is_answered() -> None:
    """Reading what is found needs another part of the stack than finding it."""
    for depth in range(150, 1000):
        deep = '{"a":' * depth + "1" + "}" * depth
        error = refusal(TEXT.replace('"5e37b3be-950a-48e1-b498-65b63d336481"', deep).encode())
        assert (error.is_addressed, error.sender) == (True, WHOLE), depth


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 2_000 + b'\\"' * 20_000,
        b" " * 64_000 + b"!",
        b"A" * 20 + b"\n" * 64_000 + b"=!",
        b"[" * 64_000,
        b"\xff" * 64_000,
        gzip.compress(b"[" * 1_000_000),
        b"{" + b",".join(b'"%d": 1' % number for number in range(6_000)) + b"}",
        b"{" + b",".join(b'"%d": "\\ud83d"' % number for number in range(4_000)) + b"}",
    ],
)
def test_no_body_costs_more_than_its_length(body: bytes) -> None:
    """A sender must not hold the worker up, which reads nothing else meanwhile."""
    started = time.process_time()
    refusal(body, 1 << 16)
    assert time.process_time() - started < 0.5  # ten times what it takes; by the square it would be minutes


@pytest.mark.parametrize(
    "body",
    [
        MARK + ENCODED.ljust(MAX_BYTES),
        json.dumps(GOOD | {"task": TASK | {"description": HALF}}).ljust(MAX_BYTES + 1).encode(),
        TEXT.ljust(MAX_BYTES).encode("utf-16"),
        json.dumps(TEXT.ljust(MAX_BYTES)).encode(),
        gzip.compress(ENCODED).ljust(MAX_BYTES + 1),
    ],
)
def test_the_sender_of_a_large_body_is_read_in_any_form(body: bytes) -> None:
    """Up to four times the limit, as of a smaller one."""
    error = refusal(body)
    assert [violation.message[:3] for violation in error.violations] == ["is "]
    assert (error.is_addressed, error.sender) == (True, WHOLE)


def test_a_huge_object_behind_a_byte_order_mark_is_answered() -> None:
    """Only its first character is looked at."""
    for begin, is_addressed in ((MARK + b' \n{"', True), (MARK + b"[", False), (b"x", False)):
        assert refusal(begin.ljust(5 * MAX_BYTES)).is_addressed is is_addressed


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
        ({"task": TASK | {"region": "r"}}, "task.region: is not a known field; did you mean region, outside of task?"),
        ({"\ufeffregion": "r"}, "\ufeffregion: is not a known field; did you mean region?"),
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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-12-01T00:00:00.1234567Z", 1796083200.123456),  # .NET
        ("2026-12-01T00:00:00.123456789Z", 1796083200.123456),  # Java, Go
        ("2026-12-01t00:00:00z", 1796083200.0),
        ("2026-12-01T00:00:00-00:00", 1796083200.0),
        ("2026-12-01T08:00:00+08:00", 1796083200.0),
        ("9999-12-31T23:59:59.9999999Z", 253402300800.0),
        ("0001-01-01T00:00:00+14:00", -62135647200.0),
    ],
)
def test_times_of_many_languages_are_read(text: str, seconds: float) -> None:
    """The ends of the calendar, which stand for never and always, included."""
    request = parse(json.dumps(GOOD | {"not_after": text}).encode(), max_bytes=MAX_BYTES)
    assert request.not_after is not None
    assert request.not_after.timestamp() == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("2026-12-01T00:00:00+0800", "2026-12-01T00:00:00+08:00[Asia/Shanghai]", "2026-12-01T00:00:00,5Z"),
        *("1796083200", "1796083200000", 1796083200, 1796083200.5, "/Date(1796083200000)/"),
        *("Tue Dec 01 2026 00:00:00 GMT", "2026-12-31T23:59:60Z", "2026-12-01T24:00:00Z"),
    ],
)
def test_other_times_are_refused_with_one_to_copy(value: object) -> None:
    """No other form is guessed."""
    error = refusal_of(GOOD | {"not_after": value})
    assert error.violations == (Violation(field="not_after", message=TIME),)
    assert from_text(TIME.rsplit(" ", 1)[1]) is not None


STYLES: Mapping[str, Callable[[Sequence[str]], str]] = {
    "camel": lambda words: words[0] + "".join(map(str.title, words[1:])),
    "Pascal": lambda words: "".join(map(str.title, words)),
    "kebab": "-".join,
    "CONSTANT": lambda words: "_".join(words).upper(),
    "blanks": " ".join,
    "cut": lambda words: "_".join(words)[:-1],
    "turned": lambda words: "_".join(words)[1::-1] + "_".join(words)[2:],
    "one more": lambda words: "_".join(words) + "s",
}
"""Ways to spell a field, of its words."""


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("field", [*GOOD, *TASK])
def test_another_style_of_a_name_is_recognised(style: str, field: str) -> None:
    """One sentence that names the field, instead of those for each missing one."""
    name = STYLES[style](field.split("_"))
    if name == field:
        return
    task = {name if known == field else known: value for known, value in TASK.items()}
    content = {name if known == field else known: value for known, value in (GOOD | {"task": task}).items()}
    at = f"task.{name}" if field in TASK else name
    assert str(refusal_of(content)) == f"{at}: is not a known field; did you mean {field}?"


@pytest.mark.parametrize("style", ["camel", "Pascal", "kebab"])
def test_the_sender_is_read_in_another_style(style: str) -> None:
    """Who writes `requestId` must not be answered without one."""
    task = {STYLES[style](name.split("_")): value for name, value in TASK.items()}
    content = {STYLES[style](name.split("_")): value for name, value in (GOOD | {"task": task}).items()}
    assert refusal_of(content).sender == WHOLE
    assert refusal_of(content | {"request_id": 7}).sender == replace(WHOLE, request_id=None)


def test_a_repeated_field_is_named_beside_others() -> None:
    """And is not shown as the sender's: which value was meant is not known."""
    body = ENCODED.replace(b'"project_id"', b'"project_id": "other", "project_id"').replace(b"vpc_id", b"vpcId")
    error = refusal(body.replace(b'"name"', b'"name": 7, "name"'))
    assert str(error) == (
        f"project_id: {REPEATED}; task.name: {REPEATED}; task.vpcId: is not a known field; did you mean vpc_id?"
    )
    assert error.sender == replace(WHOLE, project_id=None)
    assert str(refusal(b'{"urgent": 1, "urgent": 2, ' + ENCODED[1:])) == "urgent: is not a known field"


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
