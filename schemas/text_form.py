"""The form in which texts are compared: the service may show a text trimmed, normalised, escaped or in lower case."""

import re
from html import unescape
from typing import Final
from unicodedata import normalize

_MARKER: Final = re.compile(r"#rq-[0-9a-f]{16}")


def normal(text: str) -> str:
    """The text in the form in which texts are compared."""
    while (plain := unescape(text)) != text:
        text = plain
    # NFD, unlike NFC, keeps the beginning of a text that is cut between a letter and its accent.
    return " ".join(normalize("NFD", text).casefold().split())


def last_marker(description: str) -> str | None:
    """The marker that stands last in a description, in any form in which it may be shown; None if there is none."""
    markers = _MARKER.findall(normal(description))
    return markers[-1] if markers else None
