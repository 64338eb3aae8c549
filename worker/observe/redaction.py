"""Redaction of secrets in log lines, pages and command output.

Law no-secrets: a secret is found wherever it is in a value and however it is quoted there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

REDACTED: Final = "***"
MIN_SECRET_LENGTH: Final = 4
"""A shorter secret cannot be redacted: it would match in every line, and the marks would spell it out."""
MAX_ROTATED_SECRETS: Final = 64
"""Beyond it the oldest are forgotten: they were replaced long ago."""
MAX_TEXT_CHARACTERS: Final = 4096
MAX_LINE_CHARACTERS: Final = 16384
MAX_DEPTH: Final = 8
MAX_NUMBER: Final = 1e300
"""Larger numbers, and NaN, are rendered as text: JSON or Python would refuse them."""

# The repetitions are bounded, so that no text makes the search slow.
_URL_PASSWORD: Final = re.compile(r"(://[^\s:/@]{0,256}:)[^\s,]{0,512}@")


class Redactor:
    """Replaces known secrets by `***`, and the passwords of all URLs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._rotated: dict[str, None] = {}
        self._first = tuple(secrets)
        self.add(())

    def add(self, secrets: Iterable[str]) -> None:
        """Redact these as well: secrets that were rotated. Those from before stay secrets."""
        self._rotated |= dict.fromkeys(secrets)
        self._rotated = dict.fromkeys(list(self._rotated)[-MAX_ROTATED_SECRETS:])
        known = (secret for secret in (*self._first, *self._rotated) if len(secret) >= MIN_SECRET_LENGTH)
        forms = {form for secret in known for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secret_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._json_forms = tuple({json.dumps(form)[1:-1] for form in forms})

    def __repr__(self) -> str:
        return f"<Redactor: {len(self._json_forms)} forms>"

    def needs_redaction(self, line: str) -> bool:
        """Whether a line of JSON in ASCII holds a secret, or is too long."""
        if len(line) > MAX_LINE_CHARACTERS or ("://" in line and _URL_PASSWORD.search(line)):
            return True
        return any(form in line for form in self._json_forms)

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

    def _text(self, value: object) -> str:
        # Cut twice, first far behind the final limit: a secret that is cut in two would not be recognised.
        text = safe_text(value)[: MAX_TEXT_CHARACTERS * 4]
        redacted = _URL_PASSWORD.sub(rf"\1{REDACTED}@", self._secret_pattern.sub(REDACTED, text))
        return redacted if len(redacted) <= MAX_TEXT_CHARACTERS else redacted[:MAX_TEXT_CHARACTERS] + "…"


def safe_text(value: object) -> str:
    """`value` as text; never raises, so that no value costs its line."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - anything may be logged, and `str` runs its code
        return f"<{type(value).__name__}>"


def _forms(secret: str) -> set[str]:
    """The forms that a secret may have in a text: plain, quoted by Python or JSON, percent-encoded."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
