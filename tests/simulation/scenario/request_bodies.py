"""What senders put into their messages."""

from functools import lru_cache
from typing import Final

from schemas.timestamp import to_text
from tests.simulation.world.dcs import START_EPOCH_SECONDS
from tests.simulation.world.records import RequestKey

REGION: Final = "r"
"""The one region that the worker under proof knows."""


@lru_cache(maxsize=1024)
def body(
    request_key: RequestKey, not_after: float | None, project: str, *, has_shared_name: bool, is_invalid: bool
) -> bytes:
    """The message of a request."""
    number, is_clash = request_key
    if is_invalid:
        return f'{{"request_id": "r{number}"}}'.encode()
    until = "" if not_after is None else f'"not_after": "{to_text(START_EPOCH_SECONDS + not_after)}", '
    task = task_body(number, has_shared_name=has_shared_name, vpc="other" if is_clash else "v")
    return f'{{"request_id": "r{number}", "project_id": "{project}", {until}"task": {task}}}'.encode()


def task_body(number: int, *, has_shared_name: bool, vpc: str = "v") -> str:
    """The task that a request orders."""
    name = "t" if has_shared_name else f"t{number}"
    return f'{{"name": "{name}", "vpc_id": "{vpc}", "subnet_id": "s", "security_group_id": "g"}}'
