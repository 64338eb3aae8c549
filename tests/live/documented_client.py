"""The client for senders that docs/senders.md shows, as a function."""

import re
from pathlib import Path
from typing import Any

import schemas.client


def documented_client() -> Any:
    """The function `create` of the example, which is the same in docs/senders.md and in the module."""
    page = (Path(__file__).parents[2] / "docs" / "senders.md").read_text()
    shown, same = (re.findall(r"```python\n(.*?)```", text, re.DOTALL) for text in (page, schemas.client.__doc__ or ""))
    assert [block for block in shown if "aio_pika" in block] == same
    scope: dict[str, Any] = {}
    exec(same[0], scope)
    return scope["create"]
