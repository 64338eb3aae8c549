"""Reading requests, by properties: everything that is one, nothing that is none, no field given twice."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from schemas.generate import documents
from schemas.request import REPEATED, InvalidRequestError, Sender, Violation, parse
from schemas.timestamp import from_text
from tests.malformed_bodies import TASK
from tests.malformed_messages import MAX_BYTES

texts = st.text(min_size=1, max_size=30)
names = texts.filter(lambda text: text == text.strip() and not any(unicodedata.category(c) == "Cc" for c in text))
tasks = st.fixed_dictionaries(
    {"name": names, "vpc_id": texts, "subnet_id": texts, "security_group_id": texts},
    optional={"description": st.none() | texts},
)
requests = st.fixed_dictionaries(
    {"project_id": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), "task": tasks},
    optional={
        "request_id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", fullmatch=True),
        "region": st.none() | st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True),
        "not_after": st.sampled_from(("2026-12-01T00:00:00Z", "2026-12-01t00:00:00.5-08:00")),
    },
)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
styles = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "indent": st.none() | st.integers(0, 2)},
)

times = FormatChecker(())
times.checks("date-time")(lambda value: not isinstance(value, str) or from_text(value) is not None)
schema = Draft202012Validator(documents()["request"], format_checker=times)


def refusal(body: bytes) -> InvalidRequestError:
    """Return the error that reading `body` ends with."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, max_bytes=MAX_BYTES)
    return caught.value


@settings(max_examples=60)
@given(requests, styles)
def test_every_good_request_is_read(content: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    """Whatever its texts and however it is spelled in JSON, a good request is read as it was meant."""
    request = parse(json.dumps(content, **style).encode(), max_bytes=10 * MAX_BYTES)
    read = request.model_dump(exclude_unset=True)
    if request.not_after is not None:
        assert request.not_after.timestamp() == from_text(content["not_after"])
        read["not_after"] = content["not_after"]
    assert read == content


def spelled(name: str, escape: bool) -> str:
    """Return `name` as JSON, its first letter as an escape if wanted."""
    return f'"\\u{ord(name[0]):04x}{name[1:]}"' if escape else f'"{name}"'


@settings(max_examples=60)
@given(st.data(), requests, jsons, st.booleans(), st.booleans())
def test_no_field_is_given_twice(
    choice: st.DataObject, content: dict[str, Any], other: object, is_inside: bool, escape: bool
) -> None:
    """A field given twice, the last time well, is refused at either level, whatever it was the first time."""
    inner = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content["task"].items()]
    names = list(content["task"] if is_inside else content)
    name = choice.draw(st.sampled_from(names))
    repeat = f"{spelled(name, escape)}: {json.dumps(other)}"
    if is_inside:
        inner.insert(choice.draw(st.integers(0, names.index(name))), repeat)
    task = "{" + ", ".join(inner) + "}"
    outer = [f"{json.dumps(key)}: {task if key == 'task' else json.dumps(content[key])}" for key in content]
    if not is_inside:
        outer.insert(choice.draw(st.integers(0, names.index(name))), repeat)
    error = refusal(("{" + ", ".join(outer) + "}").encode())
    assert error.violations == (Violation(field=f"task.{name}" if is_inside else name, message=REPEATED),)
    assert error.is_addressed
    assert is_inside or getattr(error.sender, name, None) is None


def test_what_a_repeated_field_hides_is_not_read() -> None:
    """Numbers of any length and objects of any depth that the parser takes do not get in the way of the answer."""
    rest = json.dumps({"project_id": "a", "task": TASK}).encode()[1:]
    for hidden in (b"9" * 4300, b"-" + b"9" * 4300, b"[" * 190 + b"]" * 190, b'{"name": 1, "name": 2}', b"NaN"):
        error = refusal(b'{"task": ' + hidden + b", " + rest)
        assert [violation.field for violation in error.violations] == ["task"]
        assert error.sender == Sender(project_id="a")


@settings(max_examples=60)
@given(st.binary(max_size=200) | jsons.map(lambda content: json.dumps(content).encode()))
def test_no_bytes_do_harm(body: bytes) -> None:
    """Bytes and JSON of any kind end as a refusal with a reason, and as unaddressed unless they are an object."""
    error = refusal(body)
    assert error.violations
    try:
        is_object = isinstance(json.loads(body.decode()), dict)
    except ValueError:
        is_object = False
    assert error.is_addressed is is_object


@settings(max_examples=60)
@given(st.data(), requests)
def test_model_and_schema_agree(choice: st.DataObject, content: dict[str, Any]) -> None:
    """A request with one field changed is refused by the model if and only if the JSON Schema refuses it."""
    content = content | {"task": dict(content["task"])}
    target = choice.draw(st.sampled_from((content, content["task"])))
    name = choice.draw(st.sampled_from([*target, "region", "not_after", "description", "other"]))
    # Python's `$` also matches before a last line break, JSON Schema's does not.
    values = jsons.filter(lambda value: not (isinstance(value, str) and value.endswith("\n")))
    target[name] = choice.draw(
        values | st.sampled_from(("a", "a b", "-", "a/b", "x" * 1024, "x" * 1025, "2026-12-01T00:00:00Z", "2026-12-01"))
    )
    try:
        parse(json.dumps(content).encode(), max_bytes=MAX_BYTES)
    except InvalidRequestError:
        assert not schema.is_valid(content)
    else:
        assert schema.is_valid(content)


def test_model_and_schema_agree_on_leap_seconds() -> None:
    """RFC 3339 has them and datetimes do not: both refuse them."""
    request = {"project_id": "a", "task": TASK, "not_after": "2026-12-31T23:59:60Z"}
    assert not Draft202012Validator(documents()["request"]).is_valid(request)
    assert [violation.field for violation in refusal(json.dumps(request).encode()).violations] == ["not_after"]
    parse(json.dumps(request | {"not_after": "2026-12-31T23:59:59Z"}).encode(), max_bytes=MAX_BYTES)
