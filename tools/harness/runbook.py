"""The commands of a page: every line of its shell blocks, lines that belong together in one piece."""

import re
import shlex


def commands(text: str) -> list[str]:
    """The commands in order. A quoted text may go over several lines."""
    found: list[str] = []
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        pending = ""
        for line in block.splitlines():
            pending = f"{pending}\n{line}" if pending else line.strip()
            try:
                shlex.split(pending)
            except ValueError:  # no closing quotation
                continue
            found.append(pending)
            pending = ""
        assert not pending, block
    return found
