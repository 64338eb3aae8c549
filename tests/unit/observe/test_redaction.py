"""Secrets in log lines: masked wherever they stand and however they are quoted there."""

import json
import time
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.observe.redaction import MAX_LINE_CHARACTERS, MAX_TEXT_CHARACTERS, Redactor

SECRETS = ("s3cr3t-key", 'quo"te\\back\nline', "päss wörd/@:", "12345678")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "hide",
    [
        str,
        lambda secret: f"token={secret}, again {secret}",
        lambda secret: {"deep": [{"deeper": ("x", secret)}]},
        lambda secret: {secret: "as a key"},
        ValueError,
        lambda secret: repr({"password": secret}),
        lambda secret: json.dumps({"password": secret}),
        lambda secret: f"https://host/?token={quote(secret, safe='')}",
        lambda secret: {secret},
    ],
)
def test_no_form_of_a_secret_remains(secret: str, hide: object) -> None:
    """Plain, nested, in exceptions, in quotes of Python and JSON, percent-encoded."""
    assert callable(hide)
    cleaned = json.dumps(Redactor(SECRETS).redact(hide(secret)), ensure_ascii=False)

    assert "***" in cleaned
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")):
        assert form not in cleaned


def test_a_secret_number_is_masked() -> None:
    """A number that is a secret is masked like its text; other numbers stay numbers."""
    mask = Redactor(SECRETS)

    assert mask.redact({"a": 12345678, "b": 1234567, "c": 0.5, "d": True, "e": None}) == {
        "a": "***",
        "b": 1234567,
        "c": 0.5,
        "d": True,
        "e": None,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://user:pass@host:5672/", "amqp://user:***@host:5672/"),
        ("redis://:pass@host/0", "redis://:***@host/0"),
        ("amqp://u:p@ss/w:rd@host/ and more", "amqp://u:***@host/ and more"),
        ("amqp://u:one@a,amqp://u:two@b", "amqp://u:***@a,amqp://u:***@b"),
        ("http://host:80/path", "http://host:80/path"),
        ("mail me@example.org at http://host:80/", "mail me@example.org at http://host:80/"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, shown: str) -> None:
    """Also those that nobody named as secrets; addresses without a login stay readable."""
    mask = Redactor(())

    assert mask.redact(text) == shown
    assert mask.needs_redaction(json.dumps({"x": text})) or text == shown


def test_secrets_that_are_too_short_are_left() -> None:
    """Masking each letter `a` would hide the log and tell the secret."""
    assert Redactor(["", "a", "abc"]).redact("a banana, abc") == "a banana, abc"


@given(st.sampled_from(SECRETS), st.text(), st.text())
@example('quo"te\\back\nline', "\ud800", "\U0001f600")
def test_what_needs_masking_is_noticed(secret: str, before: str, after: str) -> None:
    """A line with a secret in a text is noticed by the line alone, whatever surrounds it."""
    assert Redactor(SECRETS).needs_redaction(json.dumps({"field": before + secret + after}))


def test_the_mask_does_not_show_what_it_hides() -> None:
    """Not even to a debugger's first look."""
    assert repr(Redactor(["s3cr3t-key"])) == "<Redactor: 1 forms>"


def test_ordinary_lines_are_left_alone() -> None:
    """A line without anything to mask costs a look only."""
    assert not Redactor(SECRETS).needs_redaction('{"event":"request.settled","url":"http://127.0.0.1:80/x"}')


def test_long_texts_are_cut_after_masking() -> None:
    """A secret at the place of the cut is not halved and shown."""
    text = "x" * (MAX_TEXT_CHARACTERS - 5) + SECRETS[0] + "y" * MAX_LINE_CHARACTERS
    mask = Redactor(SECRETS)
    cleaned = mask.redact(text)

    assert cleaned == "x" * (MAX_TEXT_CHARACTERS - 5) + "***yy…"
    assert mask.needs_redaction(json.dumps(text))


def test_hostile_text_is_cleaned_in_no_time() -> None:
    """No text, however long, makes the search for logins slow."""
    text = "://a:" * 200_000
    began = time.process_time()
    cleaned = Redactor(SECRETS).redact(text)

    assert str(cleaned).endswith("…")
    assert time.process_time() - began < 1.0


class Mute:
    """Something that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Colour(Enum):
    """A value of an enumeration."""

    RED = 1


def test_everything_becomes_plain_values() -> None:
    """Whatever is logged, JSON can say the result."""
    endless: list[object] = []
    endless.append(endless)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    values: dict[object, object] = {
        "mute": Mute(),
        "set": {1},
        "nan": float("nan"),
        "huge": 10**5000,
        "time": moment,
        "enum": Colour.RED,
    }
    cleaned = Redactor(()).redact({**values, 7: b"bytes", "endless": endless})

    assert isinstance(cleaned, dict)
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == cleaned
    endless_text = cleaned.pop("endless")
    assert "..." in str(endless_text)
    assert cleaned == {
        "mute": "<Mute>",
        "set": [1],
        "nan": "nan",
        "huge": "<int>",
        "time": str(moment),
        "enum": "Colour.RED",
        "7": "b'bytes'",
    }
