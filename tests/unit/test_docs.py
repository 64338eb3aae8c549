"""The documents stay true where that can be checked: links, names of the code, generated tables, examples."""

import ast
import json
import re
from pathlib import Path
from typing import Final

import pytest

from schemas.event import MigrationFailed
from schemas.request import parse
from scripts import errors_page, settings_page
from worker.observe.metrics import OUTCOMES

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
TREES: Final = ("worker", "schemas", "tests", "scripts", "deploy", "docs")
OF_ONE_WORD: Final = {"Completed", "Deduplicator", "Dispatcher", "Executor", "Requeued", "Settler"}
"""Classes whose names are no two words, so that they cannot be told from other words."""
RULES: Final = ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml"
LOG_EVENT: Final = (
    r"(?:breaker|broker|claims|config|credentials|dcs|health|project|publish|redis|region|reply|request|secrets|topology|worker)"
    r"\.[a-z_]+"
)
NO_EVENTS: Final = {"dcs.migration", "request.json"}
"""An exchange and a file."""
OF_LIBRARIES: Final = {"AsyncBaseTransport", "DecodingError", "NoDecode"}


def without_code(text: str) -> str:
    """A page without its code blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


def classes() -> set[str]:
    """The names of all classes and type aliases of the product."""
    names = set()
    for path in (path for tree in ("worker", "schemas") for path in (ROOT / tree).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                    names.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names.add(name)
    return names


def names_of(page: Path) -> set[str]:
    """The paths that a page names in inline code, and the classes that it names there and in its diagrams."""
    text = page.read_text()
    diagrams = " ".join(re.findall(r"^```mermaid\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    code = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)))
    paths = {word.rstrip("/") for word in code if re.fullmatch(rf"(?:{'|'.join(TREES)})/[\w./-]+", word)}
    words = {word.partition(".")[0] for word in code} | set(re.findall(r"\w+", diagrams))
    return paths | {word for word in words if word in OF_ONE_WORD or re.fullmatch(r"(?:[A-Z][a-z]+){2,}", word)}


def test_settings_page_is_fresh() -> None:
    """A setting that is added or changed is changed in docs/settings.md: `make settings`."""
    text = settings_page.PAGE.read_text()
    assert settings_page.rewritten(text) == text


def test_errors_page_is_fresh() -> None:
    """An error that is added or changed is changed in docs/errors.md: `make errors`."""
    text = errors_page.PAGE.read_text()
    assert errors_page.rewritten(text) == text


@pytest.mark.parametrize("text", ["", "<!-- settings -->", "<!-- /settings -->"])
def test_page_without_place_for_the_table_is_refused(text: str) -> None:
    """A page that lost its markers is an error, not a page without settings."""
    with pytest.raises(ValueError, match=r"settings\.md"):
        settings_page.rewritten(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that exists, and a heading that it has."""
    assert broken_links(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file and a missing heading are reported; code and addresses are not."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](#three) [c](gone.md) [d](page.md#one-two) [e](https://x/y) `[f](g)`\n"
    )
    assert broken_links(page) == ["#three", "gone.md"]


def test_every_document_is_linked_from_the_readme() -> None:
    """A reader of the README finds each page of docs/, and the README of each folder in deploy/."""
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", (ROOT / "README.md").read_text()))
    expected = {
        str(page.relative_to(ROOT)) for page in PAGES[1:] if page.parent.name == "docs" or page.stem == "README"
    }
    assert expected <= linked


def test_documents_name_what_exists() -> None:
    """Classes and paths in the documents are those of the code, alerts those of the rules."""
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text()))
    named = {name for page in PAGES for name in names_of(page) if page.name != "CHANGELOG.md"}
    paths = {name for name in named if "/" in name}
    missing = {name for name in paths if not (ROOT / name).exists()}
    missing |= named - paths - classes() - alerts - OF_LIBRARIES
    assert missing == set()


def test_log_events_and_alerts_of_documents_exist() -> None:
    """What a page tells the reader to look for in the log, the worker logs; an alert that it names is a rule."""
    code = "".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    events = {*re.findall(rf'"({LOG_EVENT})"', code), *(f"request.{outcome}" for outcome in OUTCOMES)}
    words = set(re.findall(r'"([a-z_]+)"', code))  # the throttle's events are made of the part and a verb
    alerts = set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE))
    text = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    named = set(re.findall(rf"`({LOG_EVENT})`", text)) - NO_EVENTS
    assert {event for event in named - events if not words.issuperset(event.split("."))} == set()
    assert set(re.findall(r"\bDcsWorker[A-Z]\w+", text)) <= alerts


def test_request_and_failed_event_of_the_senders_page_are_real() -> None:
    """The examples are what a worker takes, with an id as the page advises, and what a reader gets."""
    request, event = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "senders.md").read_text(), re.DOTALL)
    assert parse(request.encode(), max_bytes=65536).request_id is not None
    assert json.loads(MigrationFailed.model_validate_json(event).model_dump_json()) == json.loads(event)


def test_printed_broker_urls_have_no_trailing_slash() -> None:
    """Some clients (Java, bunny) take it for a vhost without a name, and are refused. Our default is no example."""
    texts = [*PAGES, *(ROOT / "deploy").rglob("*"), *(ROOT / "worker").rglob("*.py")]
    ending = re.compile(rb"amqps?://(?!guest:guest@127\.0\.0\.1:5672/)[\w.:@{}-]+/(?![\w%{])")
    assert ending.search(b"`amqps://u:p@host:5671/,")
    assert [path for path in texts if path.is_file() and ending.search(path.read_bytes())] == []
