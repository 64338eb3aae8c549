"""Measures of the source code that `test_architecture.py` compares with its limits. Pure: text in, findings out."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
LOG_METHODS = {"debug", "info", "warning", "error", "critical", "log", "note"}
SHORT, LONG = "Short on purpose: ", "Long on purpose: "
"""Beginnings of the sentence in a module's docstring that says why its size is outside the limits."""


def read_sources(*folders: str) -> dict[str, str]:
    """Source text by dotted module name; a package is named without `__init__`."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def module_files(folder: Path) -> list[Path]:
    """Python files below a folder, `__init__.py` left out."""
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def line_count(source: str) -> int:
    """Physical lines."""
    return len(source.splitlines())


def unmirrored_tests(tests: Path, sources: Mapping[str, Path]) -> list[str]:
    """Test files `<room>/.../test_<module>[_<topic>].py` without such a module or folder in the room's sources."""
    found = []
    for path in sorted(tests.rglob("*/test_*.py")):
        room, *inner = path.parent.relative_to(tests).parts
        folder = sources.get(room, ROOT / "worker" / room).joinpath(*inner)
        name = path.stem.removeprefix("test_")
        if not any(f"{name}_".startswith(f"{module.stem}_") for module in folder.glob("*")):
            found.append(path.relative_to(tests).as_posix())
    return found


@cache
def tree(source: str) -> ast.Module:
    """Syntax tree of a module, parsed once."""
    return ast.parse(source)


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a module's syntax tree."""
    return tuple(ast.walk(tree(source)))


# Imports


def imports(source: str, package: str = "") -> Iterator[str]:
    """The dotted name of everything that a module imports, at any depth of its code.

    What it imports from its own folder has the name in `package`; without one, and from elsewhere, it begins with dots.
    """
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = f"{package}." if package and node.level == 1 else "." * node.level
            inner = f"{node.module}." if node.module else "" if package and node.level == 1 else "."
            yield from (f"{start}{inner}{alias.name}" for alias in node.names)


def attributes(source: str) -> Iterator[str]:
    """Every `name.attribute` in a module."""
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def import_cycle(sources: Mapping[str, str]) -> list[str]:
    """The modules of one import cycle, empty when there is none; imports inside functions count."""
    graph = {
        module: {
            target
            for name in imports(source, module.rpartition(".")[0])
            for target in [name if name in sources else name.rpartition(".")[0]]
            if target in sources and target != module
        }
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


# Sizes


def crowded_folders(folder: Path, limit: int) -> dict[str, int]:
    """Folders that hold more than `limit` modules directly, with their number."""
    counts: dict[str, int] = defaultdict(int)
    for path in module_files(folder):
        counts[path.parent.relative_to(folder.parent).as_posix()] += 1
    return {name: count for name, count in counts.items() if count > limit}


def size_breach(source: str, shortest: int, longest: int) -> str:
    """What is wrong with the size of a module, empty if nothing: a reason in its docstring allows any size."""
    count, docstring = line_count(source), ast.get_docstring(tree(source)) or ""
    if count < shortest:
        return "" if SHORT in docstring else f"{count} lines"
    if count > longest:
        return "" if LONG in docstring else f"{count} lines"
    return "a reason for its size, which is within the limits" if SHORT in docstring or LONG in docstring else ""


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and lines of every function and method, decorators left out."""
    for node in nodes(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def long_functions(sources: Mapping[str, str], limit: int) -> dict[str, int]:
    """Functions of more than `limit` lines, as `module.name`, with their lines."""
    found = ((f"{module}.{name}", lines) for module, source in sources.items() for name, lines in functions(source))
    return {name: lines for name, lines in found if lines > limit}


def median_function(sources: Mapping[str, str]) -> float:
    """Lines of the median function."""
    return median(lines for source in sources.values() for _, lines in functions(source))


# Names


def shared_class_names(sources: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Class names that stand for more than one class, with the modules of each."""
    owners: dict[str, list[str]] = defaultdict(list)
    for module, source in sources.items():
        for node in nodes(source):
            if isinstance(node, ast.ClassDef):
                owners[node.name].append(module)
    return {name: tuple(modules) for name, modules in sorted(owners.items()) if len(modules) > 1}


def identifiers(source: str) -> set[str]:
    """Every identifier of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def words_of(identifier: str) -> list[str]:
    """The words of an identifier, in lower case: `is_still_ours`, `TaskFound` and `HTTPServer` have three, two, two."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", identifier).lower())


def forbidden_identifiers(source: str, words: frozenset[str], whole: frozenset[str]) -> list[str]:
    """Identifiers that contain one of `words`, or are one of `whole`."""
    return sorted(name for name in identifiers(source) if name in whole or not words.isdisjoint(words_of(name)))


def log_events(source: str) -> set[str]:
    """Log events: texts of the form `subject.verb`."""
    nodes = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {text for text in nodes if isinstance(text, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", text)}


def log_calls(source: str) -> dict[str, bool]:
    """Events of log calls (a method of a level, `log` or `note`), and whether they have a `message`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        argument.value: any(keyword.arg in ("message", None) for keyword in call.keywords)
        for call in calls
        if isinstance(call.func, ast.Attribute) and LOG_METHODS & {*words_of(call.func.attr)[-1:]}
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and argument.value in log_events(repr(argument.value))
    }


def prose(source: str) -> Iterator[str]:
    """Docstrings, help, messages and comments of a module: texts with a space, so no log event, header or path."""
    for node in nodes(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def forbidden_phrases(texts: Iterator[str] | Sequence[str], phrases: re.Pattern[str]) -> list[str]:
    """Every occurrence of the phrases, in lower case."""
    return [match[0].lower() for text in texts for match in phrases.finditer(" ".join(text.split()))]


# Repetition


def repeated_runs(sources: Mapping[str, str], length: int) -> set[tuple[str, str]]:
    """Pairs of modules that share `length` equal lines in a row; blank lines and imports do not count."""
    places: dict[tuple[str, ...], set[tuple[str, int]]] = defaultdict(set)
    for module, source in sources.items():
        lines = [line.strip() for line in source.splitlines()]
        lines = [line for line in lines if line and not line.startswith(("import ", "from "))]
        for start in range(len(lines) - length + 1):
            places[tuple(lines[start : start + length])].add((module, start))
    runs = (sorted(found) for found in places.values() if len(found) > 1)
    return {(first, other) for (first, _), *others in runs for other, _ in others}
