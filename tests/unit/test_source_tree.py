"""The measures of the source code: each kind of breach is found, and nothing else."""

import re

import pytest

from tests.unit.source_tree import (
    LONG,
    SHORT,
    forbidden_identifiers,
    forbidden_phrases,
    long_functions,
    prose,
    repeated_runs,
    shared_class_names,
    size_breach,
)

PHRASES = re.compile(r"\b(told|nobody|what is there)\b", re.IGNORECASE)


@pytest.mark.parametrize(
    ("source", "is_breach"),
    [
        ("x = 1\n" * 59, True),
        ("x = 1\n" * 60, False),
        ("x = 1\n" * 301, True),
        (f'"""Constants.\n\n{SHORT}they are few.\n"""\n', False),
        (f'"""Tables.\n\n{LONG}one table.\n"""\n' + "x = 1\n" * 301, False),
        (f'"""Tables.\n\n{LONG}one table.\n"""\n' + "x = 1\n" * 100, True),
        (f'"""Constants.\n\n{LONG}they are few.\n"""\n', True),
    ],
)
def test_a_size_outside_the_limits_needs_a_reason(source: str, is_breach: bool) -> None:
    """A reason allows a size, and a reason without need is a breach too."""
    assert bool(size_breach(source, 60, 300)) == is_breach


def test_long_functions_shared_classes_and_repeated_lines_are_found() -> None:
    """Methods and nested functions count; a run may be repeated within one module."""
    run = "".join(f"    x = {number}\n" for number in range(10))
    sources = {"a": f"class A:\n  def f(self):\n{run}    return x\n", "b": f"class A: ...\ndef g():\n{run}"}

    assert long_functions(sources, 11) == {"a.f": 12}
    assert shared_class_names(sources) == {"A": ("a", "b")}
    assert repeated_runs(sources, 10) == {("a", "b")}
    assert repeated_runs(sources, 11) == set()


def test_forbidden_words_are_found_where_they_stand() -> None:
    """In any part of an identifier; in comments, docstrings and messages, but not in log events or parts of words."""
    source = '"""It was told so.\n\nWhat is\nthere."""\nWorkerTold = 1  # nobody\nlog("request.told", "a text told")\n'

    assert forbidden_identifiers(source, frozenset({"told"}), frozenset({"log"})) == ["WorkerTold", "log"]
    assert forbidden_phrases(prose(source), PHRASES) == ["told", "what is there", "told", "nobody"]
    assert forbidden_phrases(["toldo, untold"], PHRASES) == []
