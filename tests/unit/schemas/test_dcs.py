"""Bodies of the DCS API: read tolerantly, but never into a proof that is none."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.dcs import CreateReply, ErrorBody, ListReply, TaskDetail, TaskRow, read_create_reply, read_error

jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("error", "error_code", "error_msg", "code", "message", "errorCode", "errorMsg")), inner
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"b21989ec"',
        b'{"instance_id": ""}',
        b'{"instance_id": null}',
        b'{"instance_id": 5}',
        b'{"instance_id": ["a"]}',
        b'{"id": "a"}',
        b'{"instance_id": "a"',
        b'{"instance_id": "\xff"}',
        b"<html>",
    ],
)
def test_only_a_non_empty_text_is_a_task_id(body: bytes) -> None:
    """Anything but an object with a text as `instance_id` proves nothing about a task."""
    assert read_create_reply(body) is None


@pytest.mark.parametrize(("job_id", "read"), [("j", "j"), ("", ""), (5, None), (None, None), ({}, None)])
def test_a_field_we_can_do_without_does_no_harm(job_id: object, read: str | None) -> None:
    """A job id that is no text is as good as none, and does not hide the task."""
    body = json.dumps({"instance_id": "a", "job_id": job_id, "added_later": 1}).encode()
    assert read_create_reply(body) == CreateReply(instance_id="a", job_id=read)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"count": 0}',
        b'{"migration_tasks": null}',
        b'{"error_code": "DCS.5000", "error_msg": "x"}',
        b'{"migration_tasks": [{"task_name": "a"}]}',
        b'{"migration_tasks": [{"task_id": ""}]}',
        b'{"migration_tasks": [{"task_id": 5}]}',
        b"[]",
    ],
)
def test_a_reply_without_a_list_is_no_page(body: bytes) -> None:
    """A reply that shows no list, or a row that cannot be asked for, is not taken for the absence of tasks."""
    with pytest.raises(ValidationError):
        ListReply.model_validate_json(body)


@pytest.mark.parametrize("model", [TaskRow, TaskDetail])
def test_odd_fields_of_a_task_are_none(model: type[TaskRow | TaskDetail]) -> None:
    """All but the id can be missing, null or of another type."""
    odd = {name: 5 for name in model.model_fields if name != "task_id"}
    assert model.model_validate({"task_id": "a"} | odd) == model.model_validate({"task_id": "a"})
    assert set(model.model_validate({"task_id": "a"}).model_dump(exclude={"task_id"}).values()) == {None}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"error_code": "a", "error_msg": "b"}, ErrorBody("a", "b")),
        ({"error_code": "a"}, ErrorBody()),
        ({"error_code": "a", "message": "b"}, ErrorBody()),
        ({"error_code": "a", "errorCode": "c", "errorMsg": "d"}, ErrorBody("c", "d")),
        ({"error_code": "a", "error_msg": "b", "code": "c", "message": "d"}, ErrorBody("a", "b")),
        ({"code": 401, "message": "b"}, ErrorBody("401", "b")),
        ({"code": True, "message": ["b"]}, ErrorBody()),
        ({"error_code": None, "error_msg": "b", "error_ext_msg": "c"}, ErrorBody(None, "b", "c")),
        ({"error_code": "a" * 2000, "error_msg": "b" * 2000}, ErrorBody("a" * 1024, "b" * 1024)),
        ({"a": {"b": {"code": "c", "message": "d"}}}, ErrorBody("c", "d")),
        ({"a": 1, "b": {"code": "c", "message": "d"}}, ErrorBody("c", "d")),
        ({"a": {"b": {"c": {"code": "c", "message": "d"}}}}, ErrorBody("c", "d")),
        ({"a": {"b": {"c": {"d": {"code": "c", "message": "d"}}}}}, ErrorBody()),
        ([{"code": "c", "message": "d"}], ErrorBody("c", "d")),
        ({"errors": [{"code": "c", "message": "d"}, {"code": "e", "message": "f"}]}, ErrorBody("c", "d")),
        ({"errorCode": "c", "errorMessage": "d"}, ErrorBody("c", "d")),
        ({"error": {"code": "DCS.4872", "message": "d", "ext_message": "e"}}, ErrorBody("DCS.4872", "d", "e")),
        ({"NeutronError": {"message": "d", "type": "Exists", "detail": ""}}, ErrorBody("Exists", "d")),
        ("error", ErrorBody()),
        (None, ErrorBody()),
    ],
)
def test_an_error_counts_only_whole(content: Any, error: ErrorBody) -> None:
    """The outermost whole pair is read, cut to length, down to the fourth level of objects."""
    assert read_error(json.dumps(content).encode()) == error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"<html>",
        b'{"code": 1',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_no_json_is_an_error_without_words(body: bytes) -> None:
    """What cannot be parsed says nothing, and does no harm."""
    assert read_error(body) == ErrorBody()


def test_a_code_of_thousands_of_digits_is_cut() -> None:
    """A number as long as the parser takes is text as long as we keep."""
    error = read_error(b'{"code": ' + b"9" * 4300 + b', "message": "a"}')
    assert error == ErrorBody("9" * 1024, "a")


@settings(max_examples=60)
@given(st.binary(max_size=100) | jsons.map(lambda content: json.dumps(content).encode()))
def test_no_reply_does_harm(body: bytes) -> None:
    """Whatever the service sends, what is read is short text or nothing."""
    error = read_error(body)
    words = (error.error_code, error.error_msg, error.error_ext_msg, error.request_id)
    assert all(word is None or len(word) <= 1024 for word in words)
    assert read_create_reply(body) is None


@pytest.mark.parametrize(
    "message",
    [b"\xff\xfe", b"\\ud800", "\u914d\u989d\u4e0d\u8db3".encode("gbk")],
    ids=["no UTF-8", "a lone surrogate", "GBK"],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_error_code_is_read_with_any_encoding_of_its_message(message: bytes, mark: bytes) -> None:
    """What is to be done depends on the code; the message can be written again in UTF-8."""
    said = read_error(mark + b'{"error_code": "DCS.4026", "error_msg": "' + message + b'"}')
    assert said.error_code == "DCS.4026"
    assert said.error_msg
    assert said.error_msg.encode()
