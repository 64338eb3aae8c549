"""The generated part of a document: what stands between the comments `<!-- NAME -->` and `<!-- /NAME -->`."""

from pathlib import Path


def with_part(text: str, name: str, content: str, page: Path) -> str:
    """`text` with `content` as its part `name`. Raises ValueError, which names `page`, if there is no place for it."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, is_begun, rest = text.partition(begin)
    _, is_ended, after = rest.partition(end)
    if not (is_begun and is_ended):
        raise ValueError(f"{page.name} has no place for the table: {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"
