"""Exit statuses, the same for every command; the names in `os` are those of sysexits.h."""

import os
from typing import Final

DONE: Final = os.EX_OK
FAILED: Final = 1
UNAVAILABLE: Final = os.EX_UNAVAILABLE
CONFIGURATION: Final = os.EX_CONFIG
INTERRUPTED: Final = 128
"""Plus the number of the signal."""
