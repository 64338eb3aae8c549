"""The client for senders that README and docs/senders.md show, as a function."""

import re
from pathlib import Path
from typing import Any

import schemas.client


def documented_client() -> Any:
    """The function `create` of the example, which is the same in README, docs/senders.md and the module."""
    root = Path(__file__).parents[2]
    texts = [(root / "README.md").read_text(), (root / "docs" / "senders.md").read_text(), schemas.client.__doc__ or ""]
    shown = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    clients = [block for block in shown if "aio_pika" in block]
    assert len(clients) == len(texts)
    assert len(set(clients)) == 1
    scope: dict[str, Any] = {}
    exec(clients[0], scope)
    return scope["create"]
