"""The broker's room uses public names of its libraries only, and replaces none of their classes or functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[3] / "worker" / "rabbit"
OWN = {"self", "cls"}


def breaches(source: str) -> Iterator[str]:
    """Private names of others that are touched or imported, and attributes of imported names that are set."""
    nodes = list(ast.walk(ast.parse(source)))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.asname or alias.name.partition(".")[0] for node in imports for alias in node.names}
    yield from (alias.name for node in imports for alias in node.names if alias.name.rpartition(".")[2][:1] == "_")
    for node in nodes:
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else None
        is_private = node.attr.startswith("_") and not node.attr.startswith("__")
        is_set = isinstance(node.ctx, ast.Store | ast.Del)
        if (is_private and owner not in OWN) or (is_set and owner in imported):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: path.stem)
def test_module_touches_public_names_only(path: Path) -> None:
    """No module reaches below what a library documents."""
    assert list(breaches(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "breach"),
    [
        ("self._channel._confirm_delivery(1)", "self._channel._confirm_delivery"),
        ("channel._reader_task.cancel()", "channel._reader_task"),
        ("from aiormq import connection as aiormq\naiormq.FrameReceiver = int", "aiormq.FrameReceiver"),
        ("from aiormq.base import _retrieve_exception", "_retrieve_exception"),
    ],
)
def test_each_kind_of_breach_is_found(source: str, breach: str) -> None:
    """By the name that is touched."""
    assert breach in breaches(source)
