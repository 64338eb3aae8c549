"""Dependencies: the packages that the product imports are those that pyproject.toml declares."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {
    canonicalize_name(Requirement(need).name)
    for need in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["tracing"])
}
OWNERS = packages_distributions()
NOT_IMPORTED: dict[str, str] = {}  # declared all the same, each with its reason


def imported(tree: str) -> Iterator[tuple[str, str]]:
    """The module that imports and the module that is imported, for every absolute import, late ones included."""
    for path in sorted((ROOT / tree).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            yield from ((str(path.relative_to(ROOT)), name) for name in names)


def distributions(module: str) -> set[str]:
    """The distributions that install a module; of a package that several share, those that have its file."""
    owners = set(OWNERS.get(module.partition(".")[0], ()))
    if len(owners) > 1:
        file = module.replace(".", "/")
        owners = {name for name in owners if {f"{file}.py", f"{file}/__init__.py"} & {*map(str, files(name) or ())}}
    return {canonicalize_name(owner) for owner in owners}


FOREIGN = sorted(
    {
        (path, module)
        for tree in ("schemas", "worker")
        for path, module in imported(tree)
        if module.partition(".")[0] not in {*sys.stdlib_module_names, "schemas", "worker"}
    }
)


@pytest.mark.parametrize("module", sorted({module for _, module in FOREIGN}))
def test_imported_package_is_declared(module: str) -> None:
    """What is imported is declared, and does not come by chance with another package."""
    importers = [path for path, name in FOREIGN if name == module]
    assert distributions(module), f"{module} is not installed; imported by {importers}"
    assert distributions(module) <= DECLARED, f"declare it in pyproject.toml; imported by {importers}"


def test_declared_packages_are_imported() -> None:
    """What is declared is imported, but for the exceptions; an exception without need is removed."""
    used = {name for _, module in FOREIGN for name in distributions(module)}
    assert DECLARED - used == set(NOT_IMPORTED)


def test_packages_that_share_a_name_are_distinguished() -> None:
    """OpenTelemetry's distributions share one package, and each of its modules belongs to one of them."""
    assert distributions("opentelemetry.trace") == {"opentelemetry-api"}
    assert distributions("opentelemetry.sdk.trace") == {"opentelemetry-sdk"}
    assert distributions("no_such_package") == set()
