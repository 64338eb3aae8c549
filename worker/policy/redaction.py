"""Redaction of secrets in log lines, pages, events and command output.

Law no-secrets: a secret is found wherever it is in a value and however it is encoded there, also if only the beginning
of a long one is repeated.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from html import unescape
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from worker.policy.call_result import CallError, LookupResult, TaskCreated

REDACTED: Final = "***"
MIN_SECRET_LENGTH: Final = 4
"""A shorter secret cannot be redacted: it would match in every line, and the marks would spell it out."""
MIN_LENGTH_IN_ANSWERS: Final = 6
"""A shorter secret may be part of the ids and words of an answer, which events need unchanged. IAM has none."""
MIN_LENGTH_ENCODED: Final = 8
"""The hex or base64 of a shorter secret is found by chance."""
PREFIX_LENGTH: Final = 32
"""A longer secret, a token, is found by its first characters: services cut the texts that they repeat."""
MAX_MARK_LENGTH: Final = 256
"""Of a secret with blanks or quotes, which is no token; a metadata service may answer anything."""
MAX_ROTATED_SECRETS: Final = 64
"""Beyond it the oldest are forgotten: they were replaced long ago."""
MAX_TEXT_CHARACTERS: Final = 4096
MAX_ENCODED_CHARACTERS: Final = 16 * MAX_TEXT_CHARACTERS
"""What is looked at of a text, in which a character may be many: a secret that is cut in two is not recognised."""
MAX_LINE_CHARACTERS: Final = 16384
MAX_DEPTH: Final = 8
MAX_NUMBER: Final = 1e300
"""Larger numbers, and NaN, are rendered as text: JSON or Python would refuse them."""
MAX_LAYERS: Final = 4
"""How often a text is decoded: a gateway quotes the JSON of a service, which quotes a URL."""

# The repetitions are bounded, so that no text makes the search slow.
_URL_PASSWORD: Final = re.compile(r"(://[^\s:/@]{0,256}:)[^\s,]{0,512}@")
_SIGNATURE: Final = re.compile(r"(Signature=)[0-9a-f]{64}", re.IGNORECASE)
_MAY_BE_ENCODED: Final = re.compile(r"[\\%&]")
_BACKSLASHED: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_GAPS: Final = r"\s\"'<>,"
_GAP: Final = re.compile(f"[{_GAPS}]")
"""What ends a token in a text."""
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}

Result = TypeVar("Result", bound=TaskCreated | LookupResult | CallError)


class Redactor:
    """Replaces known secrets by `***`, and the passwords of all URLs and the signatures of all calls."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._first = frozenset(map(_mark, secrets))
        self._rotated: dict[_Mark, None] = {}
        self._compile()

    def add(self, secrets: Iterable[str]) -> None:
        """Redact these as well: secrets that were rotated or received. Those from before stay secrets."""
        new = [mark for mark in map(_mark, secrets) if mark not in self._first and mark not in self._rotated]
        if new:
            self._rotated = dict.fromkeys([*self._rotated, *new][-MAX_ROTATED_SECRETS:])
            self._compile()

    def _compile(self) -> None:
        marks = {*self._first, *self._rotated}
        self._pattern = _pattern(mark for mark in marks if len(mark[0]) >= MIN_SECRET_LENGTH)
        self._answer_pattern = _pattern(mark for mark in marks if len(mark[0]) >= MIN_LENGTH_IN_ANSWERS)

    def __repr__(self) -> str:
        return f"<Redactor: {len({*self._first, *self._rotated})} secrets>"

    def needs_redaction(self, line: str) -> bool:
        """Whether a line of JSON in ASCII may hold a secret, or is too long."""
        if len(line) > MAX_LINE_CHARACTERS or _MAY_BE_ENCODED.search(line) or self._pattern.search(line):
            return True
        return "://" in line and _URL_PASSWORD.search(line) is not None

    def redact(self, value: object, depth: int = 0) -> object:
        """`value` as plain JSON values, keys included, without secrets and with long texts cut."""
        match value:
            case None | bool():
                return value
            case Mapping() if depth < MAX_DEPTH:
                return {self._text(key): self.redact(member, depth + 1) for key, member in value.items()}
            case list() | tuple() | set() | frozenset() if depth < MAX_DEPTH:
                return [self.redact(member, depth + 1) for member in value]
            case int() | float() if abs(value) < MAX_NUMBER:
                redacted = self._text(value)
                return value if redacted == safe_text(value) else redacted
            case _:
                return self._text(value)

    def answer(self, text: str) -> str:
        """A text that a service answered, without secrets; for events, which are read by others."""
        return _without(self._answer_pattern, text[:MAX_ENCODED_CHARACTERS])[:MAX_TEXT_CHARACTERS]

    def texts_of(self, result: Result) -> Result:
        """What a call proved, without secrets in its texts: any field of an answer may repeat one."""
        former = {field.name: getattr(result, field.name) for field in fields(result)}
        changed: dict[str, Any] = {}
        for name, value in former.items():
            if isinstance(value, str) and (text := self.answer(value)) != value:
                changed[name] = text
            elif isinstance(value, tuple) and (texts := tuple(map(self.answer, value))) != value:
                changed[name] = texts
        return replace(result, **changed) if changed else result

    def _text(self, value: object) -> str:
        redacted = _without(self._pattern, safe_text(value)[:MAX_ENCODED_CHARACTERS])
        return redacted if len(redacted) <= MAX_TEXT_CHARACTERS else redacted[:MAX_TEXT_CHARACTERS] + "…"


def safe_text(value: object) -> str:
    """`value` as text; never raises, so that no value costs its line."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - anything may be logged, and `str` runs its code
        return f"<{type(value).__name__}>"


def _without(pattern: re.Pattern[str], text: str) -> str:
    """The text without secrets; decoded as often as it takes to find the last one, else as it is."""
    found = decoded = _replaced(pattern, text)
    for decode in _DECODERS * MAX_LAYERS:
        if not _MAY_BE_ENCODED.search(decoded):
            break
        decoded = decode(decoded)
        if (redacted := _replaced(pattern, decoded)) != decoded:
            found = decoded = redacted
    return found


def _replaced(pattern: re.Pattern[str], text: str) -> str:
    text = _SIGNATURE.sub(rf"\1{REDACTED}", pattern.sub(REDACTED, text))
    return _URL_PASSWORD.sub(rf"\1{REDACTED}@", text) if "://" in text else text


def _without_backslashes(text: str) -> str:
    """One layer less of the escapes of JSON or Python."""
    return _BACKSLASHED.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    # Half a surrogate pair could not be written again.
    return chr(int(digits, 16)).encode(errors="replace").decode() if digits else _CONTROLS.get(escape[3], escape[3])


_DECODERS: Final = (unescape, unquote, _without_backslashes)

_Mark = tuple[str, str]
"""What a secret is found by: its text, or the beginning of it and an expression for the rest."""


def _mark(secret: str) -> _Mark:
    if len(secret) <= PREFIX_LENGTH or _GAP.search(secret):
        return secret[:MAX_MARK_LENGTH], ""
    return secret[:PREFIX_LENGTH], rf"[^{_GAPS}]*"


def _pattern(marks: Iterable[_Mark]) -> re.Pattern[str]:
    expressions = {re.escape(form) + rest for text, rest in marks for form in _forms(text)}
    return re.compile("|".join(sorted(expressions, key=len, reverse=True)) or r"(?!)")


def _forms(text: str) -> Iterator[str]:
    """The forms of a secret in a decoded text: itself, as JSON in ASCII, with `+` for blanks, in hex and in base64."""
    yield text
    yield json.dumps(text)[1:-1]
    yield text.replace(" ", "+")
    content = text.encode(errors="surrogatepass")
    if len(content) < MIN_LENGTH_ENCODED:
        return
    yield content.hex()
    yield content.hex().upper()
    # In base64 it depends on what is around: three ways to begin, and neighbours change the first and last character.
    for before, spoilt in ((0, 0), (1, 2), (2, 3)):
        whole = b64encode(bytes(before) + content).decode().rstrip("=")
        core = whole[spoilt : len(whole) - ((before + len(content)) % 3 > 0)]
        yield core
        yield core.replace("+", "-").replace("/", "_")
