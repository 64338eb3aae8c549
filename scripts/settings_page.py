"""The table of settings in docs/settings.md, generated from the code.

`make settings` writes it again.
"""

import sys
from pathlib import Path
from typing import Final

from worker.config import settings_table

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "settings.md"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


def rewritten(text: str) -> str:
    """The page `text` with the table of the present settings."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has no place for the table: {BEGIN} and {END}")
    return f"{before}{begin}\n{settings_table().strip()}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is fresh\n")
