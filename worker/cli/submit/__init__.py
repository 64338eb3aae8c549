"""`dcs-worker submit`: requests read from a file, checked, sent and followed."""

from typing import Literal

Format = Literal["jsonl", "csv", "json"]
"""What a file of requests can be: JSON Lines, a table, or a single JSON object."""
