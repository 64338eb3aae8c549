"""Law: a secret is never in a log, wherever in a value it stands and however it is quoted there."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
SHORTEST: Final = 4
"""A shorter secret cannot be masked: every line is full of it, and the masks would spell it out."""
LONGEST_TEXT: Final = 4096
LONGEST_LINE: Final = 16384
DEEPEST: Final = 8
LARGE: Final = 1e300
"""Numbers beyond it, and what is no number, are texts: JSON, or Python, would refuse them."""

# Bounded, so that no text makes the search slow.
_LOGIN: Final = re.compile(r"(://[^\s:/@]{0,256}:)[^\s,]{0,512}@")


class Mask:
    """Knows the secrets. Passwords in URLs are masked even if they are not among them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._written = tuple({json.dumps(form)[1:-1] for form in forms})

    def __repr__(self) -> str:
        return f"<Mask: {len(self._written)} forms>"

    def is_needed(self, line: str) -> bool:
        """Whether a line of JSON, all ASCII, holds what must not be there, or too much."""
        if len(line) > LONGEST_LINE or ("://" in line and _LOGIN.search(line)):
            return True
        return any(form in line for form in self._written)

    def clean(self, value: object, depth: int = 0) -> object:
        """`value` as plain values (those of JSON), without secrets and with long texts cut; keys included."""
        match value:
            case None | bool():
                return value
            case Mapping() if depth < DEEPEST:
                return {self._text(key): self.clean(member, depth + 1) for key, member in value.items()}
            case list() | tuple() | set() | frozenset() if depth < DEEPEST:
                return [self.clean(member, depth + 1) for member in value]
            case int() | float() if abs(value) < LARGE:
                masked = self._text(value)
                return value if masked == in_words(value) else masked
            case _:
                return self._text(value)

    def _text(self, value: object) -> str:
        # Cut once before, far behind what remains in the end: a secret that is cut in two is not recognised.
        text = in_words(value)[: LONGEST_TEXT * 4]
        masked = _LOGIN.sub(rf"\1{MASK}@", self._secret.sub(MASK, text))
        return masked if len(masked) <= LONGEST_TEXT else masked[:LONGEST_TEXT] + "…"


def in_words(value: object) -> str:
    """`value` as text; what cannot be told must not cost the line."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - anything may be logged, and `str` runs its code
        return f"<{type(value).__name__}>"


def _forms(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, in quotes of Python or JSON, in a URL."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
