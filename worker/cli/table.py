"""Plain tables and texts: the same on a terminal and in a pipe, and safe whatever a sender wrote."""

from collections.abc import Iterable, Sequence


def safe(text: object) -> str:
    """`text` without anything that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in str(text))


def rows(titles: Sequence[str], lines: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """A table under `titles`; the columns in `right` are aligned to the right."""
    cells = [titles, *([safe(cell) for cell in line] for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    return "\n".join("  ".join(_cells(line, titles, widths, right)).rstrip() for line in cells)


def _cells(line: Sequence[str], titles: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> Iterable[str]:
    for cell, title, width in zip(line, titles, widths, strict=True):
        yield cell.rjust(width) if title in right else cell.ljust(width)
