"""The table of settings in docs/settings.md, generated from the code.

`make settings` writes it again.
"""

import sys
from pathlib import Path
from typing import Final

from scripts.generated_part import with_part
from worker.config import settings_table

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "settings.md"
PART: Final = "settings"


def rewritten(text: str) -> str:
    """The page `text` with the table of the present settings. Raises ValueError if it has no place for it."""
    return with_part(text, PART, settings_table().strip(), PAGE)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is fresh\n")
