"""From the text of one variable to its value.

Every parser takes text without surrounding spaces and raises ValueError with the rest of a sentence that
begins with the variable's name. Parsers of secrets, and of URLs, never repeat what they were given.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BeforeValidator, SecretStr

from worker.config.regions import REGION_NAME

T = TypeVar("T")

LONGEST_WAIT = 86_400
_WHOLE = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def rule(parse: Callable[[str], object], *, strip: bool = True) -> BeforeValidator:
    """Make a field's parser out of a function; `strip` takes spaces off both ends first."""

    def validate(text: object) -> object:
        if not isinstance(text, str):
            raise ValueError("must be given as text")
        return parse(text.strip() if strip else text)

    return BeforeValidator(validate)


def quoted(text: str) -> str:
    """Return a wrong value as an error line may repeat it: on one line, and short."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def plain(number: float) -> str:
    """Return a number as a person writes it: 30 and not 30.0."""
    return repr(number).removesuffix(".0")


def whole(lowest: int, highest: int) -> BeforeValidator:
    """Make a parser of whole numbers within two bounds, both included."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}, not {quoted(text)}")
        return int(text)

    return rule(parse)


def number(text: str, *, highest: int, zero: bool, wanted: str) -> float:
    """Read one plain decimal number: no sign, no exponent, no unit, hence never infinite and never NaN."""
    value = float(text) if _DECIMAL.fullmatch(text) else -1.0
    if not 0 <= value <= highest or (value == 0 and not zero):
        limits = f"from 0 to {highest}" if zero else f"above 0 and at most {highest}"
        raise ValueError(f"must be {wanted} {limits}, not {quoted(text)}")
    return value


def seconds(*, zero: bool = False) -> BeforeValidator:
    """Make a parser of durations in seconds, at most a day; `zero` says whether 0 is one."""
    wanted = "a plain decimal number of seconds"
    return rule(lambda text: number(text, highest=LONGEST_WAIT, zero=zero, wanted=wanted))


def rate(text: str) -> float:
    """Read a number of calls per second."""
    return number(text, highest=1_000_000, zero=False, wanted="a plain decimal number of calls per second")


def delays(text: str) -> tuple[float, ...]:
    """Read the retry schedule: 1 to 16 delays in seconds, separated by commas, none shorter than the one before."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 16:
        raise ValueError(f"must have at most 16 delays, not {len(parts)}")
    wanted = "delays in plain decimal seconds, separated by commas, each"
    values = tuple(number(part, highest=LONGEST_WAIT, zero=False, wanted=wanted) for part in parts)
    if list(values) != sorted(values):
        raise ValueError(f"must not become shorter from one delay to the next, not {quoted(text)}")
    return values


def one_of(*words: str) -> BeforeValidator:
    """Make a parser that accepts one of several words, in upper or lower case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {quoted(text)}")
        return text.lower()

    return rule(parse)


def one_word(word: str) -> BeforeValidator:
    """Make a parser that accepts one single word."""

    def parse(text: str) -> str:
        if text.lower() != word:
            raise ValueError(f"must be {word} or empty, not {quoted(text)}")
        return word

    return rule(parse)


def boolean(text: str) -> bool:
    """Read true or false, in any of their usual spellings."""
    if text.lower() not in _WORDS:
        raise ValueError(f"must be one of {', '.join(_WORDS)}, not {quoted(text)}")
    return _WORDS[text.lower()]


def line(text: str) -> str:
    """Read any text of one line, as names of users and hosts are."""
    if _CONTROL.search(text):
        raise ValueError(f"must not have control characters, not {quoted(text)}")
    return text


def host(text: str) -> str:
    """Read a host to listen on: a name or an address."""
    if not re.fullmatch(r"[0-9A-Za-z._:-]+", text):
        raise ValueError(f"must be a host name or an IP address, not {quoted(text)}")
    return text


def broker_name(text: str) -> str:
    """Read the name of a queue or exchange.

    AMQP allows 255 bytes; names of further queues are made by appending to this one. `amq.` is reserved.
    """
    if len(text.encode()) > 200 or _CONTROL.search(text) or text.startswith("amq."):
        limits = "at most 200 bytes without control characters and not begin with amq."
        raise ValueError(f"must be {limits}, not {quoted(text)}")
    return text


def region(text: str) -> str:
    """Read the name of a region."""
    if not REGION_NAME.fullmatch(text):
        raise ValueError(f"must be the name of a region like cn-north-4, not {quoted(text)}")
    return text


def readable_file(text: str) -> Path:
    """Read the path of a file that exists and may be read."""
    if not os.path.isfile(text) or not os.access(text, os.R_OK):
        raise ValueError(f"must be a file that exists and can be read, not {quoted(text)}")
    return Path(text)


def folder(text: str) -> Path:
    """Read the path of a folder that exists."""
    if not os.path.isdir(text):
        raise ValueError(f"must be a folder that exists, not {quoted(text)}")
    return Path(text)


def header_secret(text: str) -> SecretStr:
    """Read a secret that travels in an HTTP header."""
    if not _VISIBLE_ASCII.fullmatch(text):
        raise ValueError("must consist of visible ASCII characters without spaces (the value is not shown)")
    return SecretStr(text)


def password(text: str) -> SecretStr:
    """Read a password: any characters but control characters; spaces at its ends belong to it."""
    if _CONTROL.search(text):
        raise ValueError("must not have control characters (the value is not shown)")
    return SecretStr(text)
