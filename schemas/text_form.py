"""The form in which texts are compared: the service may show a text trimmed, normalised, escaped or in lower case."""

import re
from functools import lru_cache
from html import unescape
from typing import Final
from unicodedata import normalize

_MARKER: Final = re.compile(r"#rq-[0-9a-f]{16}")
_ESCAPED: Final = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z0-9]{1,32});?", re.IGNORECASE)
_TIMES_ESCAPED: Final = 8
"""A text may be escaped wherever it is passed on; each time costs a pass."""


@lru_cache(maxsize=64)  # what is sent is compared with every row of a list
def normal(text: str) -> str:
    """The text in the form in which texts are compared."""
    for _ in range(_TIMES_ESCAPED):
        if "&" not in text:
            break
        text = _ESCAPED.sub(lambda escaped: unescape(escaped[0]), text)
    # NFD, unlike NFC, keeps the beginning of a text that is cut between a letter and its accent.
    return " ".join(normalize("NFD", text).casefold().split())


def last_marker(description: str) -> str | None:
    """The marker that stands last in a description, in any form in which it may be shown; None if there is none."""
    markers = _MARKER.findall(normal(description))
    return markers[-1] if markers else None
