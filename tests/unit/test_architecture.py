"""The house: floors, import bans, sizes, names and words, each with its limit. `docs/architecture.md` explains them."""

import re
import sys
from typing import Final

import pytest

from tests.unit.library_intrusions import of_all
from tests.unit.source_tree import (
    ROOT,
    attributes,
    crowded_folders,
    forbidden_identifiers,
    forbidden_phrases,
    import_cycle,
    imports,
    line_count,
    log_calls,
    log_events,
    long_functions,
    median_function,
    module_files,
    prose,
    read_sources,
    repeated_runs,
    shared_class_names,
    size_breach,
    unmirrored_tests,
    words_of,
)

SOURCES: Final = read_sources("schemas", "worker")
WORKER: Final = {module: source for module, source in SOURCES.items() if module.startswith("worker")}
MODULES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in module_files(ROOT / "worker")
}
"""The modules of worker/ whose size counts: `__init__.py` is left out."""
DOCUMENTS: Final = [
    ROOT / "README.md",
    *sorted(path for folder in ("docs", "deploy", "schemas", "tests") for path in (ROOT / folder).rglob("*.md")),
]

FLOORS: Final = {
    "schemas": 0,
    "worker": 0,  # the bare package
    "worker.policy": 1,
    "worker.pipeline": 2,
    "worker.rabbit": 2,
    "worker.dcs": 2,
    "worker.claims": 2,
    "worker.observe": 2,
    "worker.web": 2,
    "worker.tools": 2,
    "worker.config": 2,
    "worker.bootstrap": 3,
    "worker.cli": 4,
    "worker.__main__": 5,
}
DOORS: Final = {  # what only these rooms, or folders of rooms, may import or touch
    "aio_pika": {"worker.rabbit"},
    "aiormq": {"worker.rabbit"},
    "pamqp": {"worker.rabbit"},
    "httpx2": {"worker.dcs", "worker.rabbit.tools"},  # rabbit.tools: RabbitMQ's management API
    "httpcore2": {"worker.dcs"},
    "aiohttp": {"worker.tools", "worker.web"},
    "redis": {"worker.claims"},
    "prometheus_client": {"worker.observe"},
    "opentelemetry": {"worker.observe"},
    "os.environ": {"worker.config", "worker.tools"},
    "os.environb": {"worker.config", "worker.tools"},
    "os.getenv": {"worker.config", "worker.tools"},
}
LIBRARIES: Final = {"schemas": {"pydantic", "pydantic_core"}, "worker.policy": set[str]()}
"""What else these may import: of the standard library all but IMPURE."""
IMPURE: Final = {"asyncio", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}

MAX_FILES_IN_FOLDER: Final = 15
MIN_MODULE_LINES, MAX_MODULE_LINES = 60, 300
MAX_FUNCTION_LINES, MAX_MEDIAN_FUNCTION_LINES = 40, 8
MAX_REPEATED_LINES: Final = 9
MAX_WORKER_LINES, MAX_WORKER_MODULES = 24_567, 149
MEDIAN_MODULE_LINES: Final = range(90, 161)
MAX_README_LINES: Final = 200

OLD_WORDS: Final = """
    told nobody whoever whatever wanted begun aside stingy patience unheard lately errand chronicle tale
    tempo pulse shelf inlet outlet hurdle sighting wish standin mood moods strangers
"""
FORBIDDEN_WORDS: Final = frozenset(OLD_WORDS.split())
"""Words that no identifier contains. The glossary has the word to use."""
OLD_NAMES: Final = """
    one Order Case Ending Postponed HandedBack Abandoned Fault Remedy Blame Copies Flight Ground Lane Link Pace Intake
    Trouble Door Witness Rolling Wire Seen Held PATIENCE DEADLINE is_firm put_off may_go given_id is_for_all
    take_off land owed tenant tenants Tenant Tenants must_look was_looking relies_on_claim is_over may_spend is_free
"""
FORBIDDEN_NAMES: Final = frozenset(OLD_NAMES.split())
"""Identifiers that were renamed, and `one` for a thing that has a name."""
FORBIDDEN_PHRASES: Final = re.compile(
    r"\b(told|nobody|whoever|whatever|stingy|wanted|what is there|(?:step|put|set)s? aside|aside|is no more"
    r"|(?:a|one) person|persons?|of (?:its|their|our|one's|his) own|so long|at rest|begun|given up|errand|tale)\b",
    re.IGNORECASE,
)


def room(name: str) -> str:
    """The room of a module or of what is imported from it: `worker.dcs` of `worker.dcs.client.Client`."""
    first, *rest = name.split(".")
    inner = f"{first}.{rest[0]}" if rest else first
    return inner if inner in FLOORS else first


def is_in(module: str, folders: set[str]) -> bool:
    """Whether a module is in one of the folders."""
    return any(f"{module}.".startswith(f"{folder}.") for folder in folders)


def is_open(here: str, name: str) -> bool:
    """Whether the room `here` may import `name`, as far as floors decide."""
    first = name.partition(".")[0]
    if not first:  # relative: the room that it comes from is not seen at a glance
        return False
    if first in ("schemas", "worker"):
        return room(name) == here or FLOORS[room(name)] < FLOORS[here]
    if here in LIBRARIES and first not in LIBRARIES[here]:
        return first in sys.stdlib_module_names - IMPURE
    return True


def import_breaches(module: str, source: str) -> tuple[str, ...]:
    """What a module imports or touches though its room may not."""
    here = room(module)
    imported = set(imports(source, "schemas" if here == "schemas" else ""))
    banned = {
        name
        for name in imported
        for door, rooms in DOORS.items()
        if f"{name}.".startswith(f"{door}.") and not is_in(module, rooms)
    }
    touched = {name for name in attributes(source) if name in DOORS and not is_in(module, DOORS[name])}
    return tuple(sorted({name for name in imported if not is_open(here, name)} | banned | touched))


# Imports


def test_every_module_is_in_a_known_room() -> None:
    """A module stands in one of the rooms of FLOORS."""
    assert [module for module in SOURCES if module != "worker" and room(module) == "worker"] == []


def test_modules_import_only_from_lower_floors_and_their_own_libraries() -> None:
    """A module imports from lower floors, from its own room, and libraries that its room has the door to."""
    found = {module: import_breaches(module, source) for module, source in SOURCES.items()}
    assert {module: names for module, names in found.items() if names} == {}


def test_messages_can_be_copied_under_any_name() -> None:
    """The modules of schemas/ import each other without the name of the folder."""
    own = {module: source for module, source in SOURCES.items() if room(module) == "schemas"}
    found = {module: [name for name in imports(source) if name.startswith("schemas")] for module, source in own.items()}
    assert {module: names for module, names in found.items() if names} == {}
    assert set(own) > {"schemas.client", "schemas.request"}


def test_there_is_no_import_cycle() -> None:
    """No chain of imports, not even of late ones, leads back to where it started."""
    assert import_cycle(SOURCES) == []


def test_no_module_reaches_into_private_parts_of_a_library() -> None:
    """Libraries are used by their public interfaces: nothing private is imported or touched, nothing is replaced."""
    assert of_all(SOURCES) == {}


# Sizes


def test_no_folder_has_too_many_files() -> None:
    """A folder shows what is in it at a glance."""
    assert crowded_folders(ROOT / "worker", MAX_FILES_IN_FOLDER) == {}


def test_modules_have_a_size_within_limits_or_say_why_not() -> None:
    """Neither crumbs nor heaps: other sizes have a reason, in a sentence of the docstring that SHORT or LONG begins."""
    found = {name: size_breach(source, MIN_MODULE_LINES, MAX_MODULE_LINES) for name, source in MODULES.items()}
    assert {name: breach for name, breach in found.items() if breach} == {}


def test_functions_are_short() -> None:
    """A function fits on a screen, and most are a few lines."""
    assert not long_functions(WORKER, MAX_FUNCTION_LINES)
    assert median_function(WORKER) <= MAX_MEDIAN_FUNCTION_LINES


def test_worker_as_a_whole_stays_small() -> None:
    """Lines and modules of worker/, without `__init__.py`."""
    lines = sorted(map(line_count, MODULES.values()))
    assert sum(lines) <= MAX_WORKER_LINES
    assert len(lines) <= MAX_WORKER_MODULES
    assert lines[len(lines) // 2] in MEDIAN_MODULE_LINES


def test_no_run_of_lines_stands_twice() -> None:
    """What is repeated for ten lines or more should be one function."""
    assert not list(repeated_runs(MODULES, MAX_REPEATED_LINES + 1))


def test_readme_is_short() -> None:
    """The README is read to its end."""
    assert line_count((ROOT / "README.md").read_text()) <= MAX_README_LINES


def test_unit_tests_mirror_the_source() -> None:
    """`tests/unit/<room>/test_<module>.py` or `test_<module>_<topic>.py` names a module of that room."""
    elsewhere = {"schemas": "schemas", "bench": "tools/bench", "fakes": "tests/fakes"}
    folders = {room: ROOT / folder for room, folder in elsewhere.items()}
    assert not unmirrored_tests(ROOT / "tests" / "unit", folders)


# Names and words


def test_a_class_name_has_one_owner() -> None:
    """Who greps for a class finds one class."""
    assert shared_class_names(WORKER) == {}


def test_identifiers_contain_no_forbidden_word() -> None:
    """Identifiers use the words of the glossary."""
    found = {
        module: forbidden_identifiers(source, FORBIDDEN_WORDS, FORBIDDEN_NAMES) for module, source in SOURCES.items()
    }
    assert {module: identifiers for module, identifiers in found.items() if identifiers} == {}


def test_log_events_contain_no_forbidden_word() -> None:
    """Events are public: `subject.verb` in the words of the glossary."""
    words = FORBIDDEN_WORDS | {name.lower() for name in FORBIDDEN_NAMES}
    found = {event for source in WORKER.values() for event in log_events(source) if words & {*words_of(event)}}
    assert found == set()
    assert log_events("note('info', 'project.held')") == {"project.held"}


def test_every_log_line_has_a_sentence_and_a_place_in_the_documents() -> None:
    """`message` says in words what the event names; `docs/logs.md` lists the events."""
    calls = {event: has_message for source in WORKER.values() for event, has_message in log_calls(source).items()}
    assert {event for event, has_message in calls.items() if not has_message} == set()
    listed = (ROOT / "docs" / "logs.md").read_text()
    assert {event for event in calls if f"`{event}`" not in listed} == set()
    assert len(calls) > 20
    assert log_calls("logger.info('worker.ready', port=1)\nself.note('info', 'a.b', **fields)") == {
        "worker.ready": False,
        "a.b": True,
    }


def test_texts_contain_no_forbidden_phrase() -> None:
    """Docstrings, comments, help, messages and documents are in plain technical English."""
    texts = {module: list(prose(source)) for module, source in SOURCES.items()}
    texts |= {path.relative_to(ROOT).as_posix(): [path.read_text()] for path in DOCUMENTS}
    found = {name: forbidden_phrases(text, FORBIDDEN_PHRASES) for name, text in texts.items()}
    assert {name: phrases for name, phrases in found.items() if phrases} == {}


# The import rules themselves


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("schemas.event", "import aiohttp", "aiohttp"),
        ("schemas.event", "from worker.policy import backoff", "worker.policy.backoff"),
        ("schemas.event", "from ..worker import policy", "..worker.policy"),
        ("worker.policy.backoff", "import random", "random"),
        ("worker.policy.backoff", "import structlog", "structlog"),
        (
            "worker.policy.delivery_report",
            "from worker.pipeline.executor import Executor",
            "worker.pipeline.executor.Executor",
        ),
        ("worker.dcs.client", "def late():\n    from worker.rabbit import topology", "worker.rabbit.topology"),
        ("worker.pipeline.executor", "from worker import bootstrap", "worker.bootstrap"),
        ("worker.pipeline.executor", "from ..dcs import client", "..dcs.client"),
        ("worker.pipeline.executor", "from aiohttp import ClientSession", "aiohttp.ClientSession"),
        ("worker.dcs.client", "from aiohttp import web", "aiohttp.web"),
        ("worker.dcs.client", "import aiohttp\naiohttp.web.Application()", "aiohttp"),
        ("worker.rabbit.publisher", "import httpx2", "httpx2"),
        ("worker.pipeline.throttle", "import redis.asyncio", "redis.asyncio"),
        ("worker.rabbit.supervisor", "import os\nos.environ['HOME']", "os.environ"),
        ("worker.bootstrap", "from os import getenv", "os.getenv"),
        ("worker.bootstrap", "import worker.cli.run", "worker.cli.run"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str, breach: str) -> None:
    """Each kind of breach is found where it stands, and named."""
    assert breach in import_breaches(module, source)


def test_a_door_may_be_that_of_a_folder() -> None:
    """Only the tools of the broker's room may speak HTTP."""
    assert import_breaches("worker.rabbit.tools.management", "import httpx2") == ()


def test_a_cycle_by_a_late_import_is_found() -> None:
    """Two modules that import each other, one of them inside a function, are a cycle."""
    late = "def f():\n    from worker.pipeline import executor"
    assert import_cycle(
        {"worker.pipeline.executor": "import worker.pipeline.throttle", "worker.pipeline.throttle": late}
    )
    assert not import_cycle(
        {"worker.pipeline.executor": "import worker.pipeline.throttle", "worker.pipeline.throttle": "import json"}
    )
