"""`dcs-worker submit`: reads requests, validates them, sends them and waits for their outcomes."""

from typing import Literal

Format = Literal["jsonl", "csv", "json"]
"""Format of a file of requests: JSON Lines, a table with a header line, or a JSON object or array of objects."""
