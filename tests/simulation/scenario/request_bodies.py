"""What senders put into their messages."""

from functools import lru_cache
from typing import Final

from schemas.timestamp import to_text
from tests.simulation.world.dcs import EPOCH
from tests.simulation.world.records import Matter

REGION: Final = "r"
"""The one region that the worker under proof knows."""


@lru_cache(maxsize=1024)
def body(matter: Matter, not_after: float | None, project: str, *, one_name: bool, is_broken: bool) -> bytes:
    """The message of a request."""
    number, is_clash = matter
    if is_broken:
        return f'{{"request_id": "r{number}"}}'.encode()
    until = "" if not_after is None else f'"not_after": "{to_text(EPOCH + not_after)}", '
    task = task_body(number, one_name=one_name, vpc="other" if is_clash else "v")
    return f'{{"request_id": "r{number}", "project_id": "{project}", {until}"task": {task}}}'.encode()


def task_body(number: int, *, one_name: bool, vpc: str = "v") -> str:
    """The task that a request orders."""
    name = "t" if one_name else f"t{number}"
    return f'{{"name": "{name}", "vpc_id": "{vpc}", "subnet_id": "s", "security_group_id": "g"}}'
