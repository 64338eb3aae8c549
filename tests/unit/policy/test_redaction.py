"""Secrets in log lines: masked wherever they stand and however they are quoted there."""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.policy.redaction import MAX_LINE_CHARACTERS, MAX_ROTATED_SECRETS, MAX_TEXT_CHARACTERS, Redactor

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


TOKEN = "MIIDkgYJKoZIhvcNAQcCoIIDgzCC/38+" + "aB3-/+x" * 500


@pytest.mark.parametrize("secret", ["s3cr3t-key+/=", 'quo"te\\back\nline', "päss wörd/@:", TOKEN], ids=repr)
@pytest.mark.parametrize(
    "encode",
    [
        lambda secret: "".join(f"\\u{ord(sign):04x}" for sign in secret),
        lambda secret: "".join(f"\\x{ord(sign):02X}" if sign.isascii() else sign for sign in secret),
        lambda secret: secret.replace("/", "\\/").replace("b", "\\u0062") if "\\" not in secret else json.dumps(secret),
        lambda secret: json.dumps(json.dumps({"said": secret})),
        lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
        lambda secret: quote(quote(secret, safe=""), safe=""),
        lambda secret: "".join(f"&#{ord(sign)};" for sign in secret),
        lambda secret: "".join(f"&#x{ord(sign):X};" for sign in secret),
        escape,
        lambda secret: json.dumps({"html": escape(quote(secret, safe=""))}),
        lambda secret: secret.encode().hex(),
        lambda secret: secret.encode().hex().upper(),
        lambda secret: "Basic " + base64.b64encode(f"user:{secret}".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"a{secret}b".encode()).decode(),
        lambda secret: base64.b64encode(f"ab{secret}".encode()).decode(),
        lambda secret: quote(base64.b64encode(secret.encode()).decode(), safe=""),
    ],
)
def test_encoded_secret_is_redacted(encode: Callable[[str], str], secret: str) -> None:
    """In the escapes of JSON, Python, URLs and HTML, also in several layers, in hex and in base64."""
    redactor, encoded = Redactor([secret]), encode(secret)
    text = f"refused: {encoded} is wrong"

    for cleaned in (redactor.redact(text), redactor.answer(text)):
        assert isinstance(cleaned, str)
        assert cleaned.startswith("refused: ")
        assert "***" in cleaned
        assert len(cleaned) < 80
        # Around base64 some characters stay that hold less than two of the secret's.
        assert len(encoded) < 24 or encoded[16:24] not in cleaned
    assert redactor.needs_redaction(json.dumps({"field": text}))


@pytest.mark.parametrize("length", [32, 100, 1000])
def test_beginning_of_token_is_redacted(length: int) -> None:
    """Services cut the texts that they repeat; what follows the token stays."""
    assert Redactor([TOKEN]).redact(f'token "{TOKEN[:length]}" expired') == 'token "***" expired'


@pytest.mark.parametrize("text", ["100 %", "a\\nb", "a &amp; b", "%41%42", "\\u0041", "\\", "%", "&#65;"])
def test_text_without_secret_is_not_decoded(text: str) -> None:
    """It is shown as it came."""
    assert Redactor(SECRETS).redact(text) == Redactor(SECRETS).answer(text) == text


def test_decoded_text_can_be_written() -> None:
    """Half a surrogate pair beside an encoded secret would cost the event."""
    cleaned = Redactor(["s3cr3t-key"]).answer("\\ud800 &#xd800; s3cr3t\\u002dkey %ff")

    assert "***" in cleaned
    assert cleaned.encode()


def test_short_secret_stays_in_ids() -> None:
    """Ids of a task that hold it by chance are not changed; messages are for people."""
    redactor = Redactor(["4b8e"])

    assert redactor.answer("b21989ec-2889-4b8e-99db-19c073425ec2") == "b21989ec-2889-4b8e-99db-19c073425ec2"
    assert redactor.redact("not 4b8e") == "not ***"


def test_secret_number_is_redacted() -> None:
    """A number that is a secret is redacted like text; other numbers stay numbers."""
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
def test_url_passwords_are_redacted(text: str, shown: str) -> None:
    """Also unknown ones; addresses without a login stay readable."""
    mask = Redactor(())

    assert mask.redact(text) == shown
    assert mask.needs_redaction(json.dumps({"x": text})) or text == shown


def test_short_secret_is_not_redacted() -> None:
    """Redacting each letter `a` would hide the log and reveal the secret."""
    assert Redactor(["", "a", "abc"]).redact("a banana, abc") == "a banana, abc"


@given(st.sampled_from(SECRETS), st.text(), st.text())
@example('quo"te\\back\nline', "\ud800", "\U0001f600")
def test_line_with_secret_needs_redaction(secret: str, before: str, after: str) -> None:
    """A line with a secret is recognised, whatever surrounds the secret."""
    assert Redactor(SECRETS).needs_redaction(json.dumps({"field": before + secret + after}))


def test_repr_shows_no_secret() -> None:
    """The redactor's own repr has no secret."""
    assert repr(Redactor(["s3cr3t-key"])) == "<Redactor: 1 secrets>"


def test_line_without_secret_is_unchanged() -> None:
    """A line without a secret is not rendered again."""
    assert not Redactor(SECRETS).needs_redaction('{"event":"request.succeeded","url":"http://127.0.0.1:80/x"}')


def test_long_text_is_cut_after_redaction() -> None:
    """A secret at the cut is not halved and shown."""
    text = "x" * (MAX_TEXT_CHARACTERS - 5) + SECRETS[0] + "y" * MAX_LINE_CHARACTERS
    mask = Redactor(SECRETS)
    cleaned = mask.redact(text)

    assert cleaned == "x" * (MAX_TEXT_CHARACTERS - 5) + "***yy…"
    assert mask.needs_redaction(json.dumps(text))


def test_hostile_text_is_redacted_fast() -> None:
    """No text, however long, makes the search for logins slow."""
    text = "://a:" * 200_000
    began = time.process_time()
    cleaned = Redactor(SECRETS).redact(text)

    assert str(cleaned).endswith("…")
    assert time.process_time() - began < 1.0


def test_many_huge_secrets_are_learnt_fast() -> None:
    """Also if a metadata service gives anything as its token."""
    began = time.process_time()
    redactor = Redactor([f'{number} "{"x" * 100_000}"' for number in range(20)])

    assert str(redactor.redact(f'7 "{"x" * 1000}')).startswith("***")
    assert time.process_time() - began < 2.0


class Mute:
    """Something that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Colour(Enum):
    """A value of an enumeration."""

    RED = 1


def test_any_value_becomes_plain() -> None:
    """The result of any value can be rendered as JSON."""
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


def test_rotated_secrets_are_redacted_as_well_as_those_before() -> None:
    """The first ones for ever, of the rotated ones the latest: they were replaced long ago."""
    redactor = Redactor(["first-secret"])
    for number in range(MAX_ROTATED_SECRETS + 1):
        redactor.add([f"rotated-{number:03}"])

    assert redactor.redact(f"first-secret rotated-001 rotated-{MAX_ROTATED_SECRETS:03}") == "*** *** ***"
    assert redactor.needs_redaction(f"rotated-{MAX_ROTATED_SECRETS:03}")
    assert redactor.redact("rotated-000") == "rotated-000"
