"""Exit statuses, the same for every command."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
UNAVAILABLE: Final = 69
CONFIGURATION: Final = 78
INTERRUPTED: Final = 128
"""Plus the number of the signal."""
