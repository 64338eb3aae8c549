"""The lock files: they name no host, pin by hash, and fit pyproject.toml, so that any mirror yields the same."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(lock: str) -> list[str]:
    """The entries of a lock file, each on one line."""
    return (ROOT / lock).read_text().replace("\\\n", " ").splitlines()


def pins(lock: str) -> dict[str, set[str]]:
    """Project name to the versions pinned for it; there are several when markers tell platforms apart."""
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        pin = Requirement(entry.partition(" --hash")[0])
        (only,) = pin.specifier
        assert only.operator == "=="
        found.setdefault(canonicalize_name(pin.name), set()).add(only.version)
    return found


def group(name: str) -> list[str]:
    """The dependencies of a group, those of the groups that it includes among them."""
    entries = PROJECT["dependency-groups"][name]
    included = [need for entry in entries if isinstance(entry, dict) for need in group(entry["include-group"])]
    return [entry for entry in entries if isinstance(entry, str)] + included


def wanted(lock: str) -> list[Requirement]:
    """The direct dependencies that a lock file must satisfy."""
    project = PROJECT["project"]
    names = [*project["dependencies"], *project["optional-dependencies"]["tracing"]]
    needs = {LOCKS[0]: names, LOCKS[1]: names + group("dev"), LOCKS[2]: group("build")}
    return [Requirement(need) for need in needs[lock]]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_host(lock: str) -> None:
    """A lock file holds no address and no option that would choose an index."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-|#)(?!-hash=)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    """Each entry is pinned by at least one SHA-256."""
    assert [entry for entry in entries(lock) if not HASH.search(entry)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_fits_the_project(lock: str) -> None:
    """Every direct dependency is pinned, within its range."""
    pinned = pins(lock)
    for need in wanted(lock):
        versions = pinned.get(canonicalize_name(need.name), set())
        assert versions, f"{need.name} is not in {lock}: run make lock"
        assert all(need.specifier.contains(version) for version in versions), f"{need} is stale: run make lock"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_what_is_tested_is_what_ships(lock: str) -> None:
    """The development lock pins everything that runs, or builds the image, at the very versions of its own lock."""
    shipped, tested = pins(lock), pins("requirements-dev.lock")
    assert {name: tested.get(name) for name in shipped} == shipped
