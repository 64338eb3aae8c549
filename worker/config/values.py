"""Validators of single settings: pydantic's parsers, and one sentence for every value that they reject.

The sentence continues a line that begins with the variable's name. Validators of secrets never repeat the value.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from worker.config.urls import REGION_NAME, REGION_RULE, SecretUrl

MAX_DURATION_SECONDS = 86_400
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


def quote_value(text: str) -> str:
    """Return an invalid value for an error line: quoted, on one line, short."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def number_text(number: float) -> str:
    """Return a number as an operator writes it: 30, not 30.0."""
    return repr(number).removesuffix(".0")


def must_be(rule: str, is_valid: Callable[[Any], object] = lambda _: True, *, syntax: str = "(?s).*") -> WrapValidator:
    """Wrap the parser of a field's type: text in `syntax` whose value `is_right`, or else "must be `rule`"."""

    def validate(text: str, parse: ValidatorFunctionWrapHandler) -> object:
        if re.fullmatch(syntax, text):
            with suppress(ValidationError):
                if is_valid(value := parse(text)):
                    return value
        raise ValueError(f"must be {rule}, not {quote_value(text)}")

    return WrapValidator(validate)


def whole_number(lowest: int, highest: int) -> WrapValidator:
    """Make a validator of whole numbers within two bounds, both included."""
    # Python and pydantic would also read 1_000, +1 and 1.0.
    return must_be(
        f"a whole number from {lowest} to {highest}", lambda number: lowest <= number <= highest, syntax="[0-9]+"
    )


def decimal(kind: str, highest: int, *, lowest: float | None = None) -> WrapValidator:
    """Make a validator of plain decimal numbers: no sign, no exponent, no unit, hence never infinite and never NaN."""
    limits = f"above 0 and at most {highest}" if lowest is None else f"from {lowest:g} to {highest}"
    least = math.ulp(0) if lowest is None else lowest
    return must_be(f"{kind} {limits}", lambda number: least <= number <= highest, syntax="[0-9.]+")


def seconds(*, lowest: float | None = None) -> WrapValidator:
    """Make a validator of durations in seconds, at most a day; above 0 without a lowest one."""
    return decimal("a plain decimal number of seconds", MAX_DURATION_SECONDS, lowest=lowest)


def plain_text(text: str) -> str:
    """Strip the spaces around a value; it is neither in quotes nor behind a byte order mark."""
    text = text.strip()
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark, which would count as part of the value; write it without one")
    if text and text[0] in "'\"" and text.endswith(text[0]):
        raise ValueError("is in quotes, which would count as part of the value; write it without them")
    return text


def items(text: str) -> list[str]:
    """Split text at its commas, and strip the spaces around each item."""
    return [item.strip() for item in text.split(",")]


def check_rising_delays(delays: tuple[float, ...]) -> tuple[float, ...]:
    """Check the retry schedule: at most 16 delays, none shorter than its predecessor."""
    if len(delays) > 16:
        raise ValueError(f"must have at most 16 delays, not {len(delays)}")
    if list(delays) != sorted(delays):
        raise ValueError(
            f"must not become shorter from one delay to the next, not {quote_value(','.join(map(number_text, delays)))}"
        )
    return delays


def check_header_secret(secret: SecretStr) -> SecretStr:
    """Check a secret that is sent in an HTTP header."""
    if not _VISIBLE_ASCII.fullmatch(secret.get_secret_value()):
        raise ValueError("must consist of visible ASCII characters without spaces (the value is not shown)")
    return secret


def check_password(secret: SecretStr) -> SecretStr:
    """Check a password: no control characters."""
    if _CONTROL.search(secret.get_secret_value()):
        raise ValueError("must not have control characters (the value is not shown)")
    return secret


ANY_CASE = BeforeValidator(str.lower)
BOOLEAN = must_be("one of true, 1, yes, on, false, 0, no, off")
RATE = decimal("a plain decimal number of calls per second", 1_000_000)
_DELAYS = "delays in plain decimal seconds, separated by commas, each"
# Queues have their TTL, and their names, in whole milliseconds.
Delay = Annotated[float, decimal(_DELAYS, MAX_DURATION_SECONDS, lowest=0.001)]
HOST = must_be("a host name or an IP address", syntax="[0-9A-Za-z._:-]+")
LINE = must_be("text without control characters", lambda text: not _CONTROL.search(text))
REGION = must_be(REGION_RULE, REGION_NAME.fullmatch)
# A path that is too long for the system counts as missing too.
READABLE_FILE = must_be(
    "a file that exists and can be read", lambda path: os.path.isfile(path) and os.access(path, os.R_OK)
)
FOLDER = must_be("a folder that exists", os.path.isdir)


def _broker_name(longest: int) -> WrapValidator:
    # RabbitMQ takes more, but the AMQP library sends no others (`DOMAIN_REGEX` of pamqp). `amq.` is reserved.
    return must_be(
        f"at most {longest} of the characters A-Z a-z 0-9 -_.:@#,/+ and blanks, and not begin with amq.",
        lambda name: len(name) <= longest and not name.startswith("amq."),
        syntax="[A-Za-z0-9_.:@#,/+ -]*",
    )


# The names of further queues are made by appending to this one.
QUEUE_NAME = _broker_name(200)
EXCHANGE_NAME = _broker_name(127)


def secret_texts(values: Iterable[object]) -> Iterator[str]:
    """All secrets in values of settings, which must not be printed; of URLs the passwords."""
    for value in values:
        match value:
            case SecretStr():
                yield value.get_secret_value()
            case SecretUrl():
                yield from value.passwords
            case tuple():
                yield from secret_texts(value)
