"""The licences of everything that the image installs from the lock, as deploy/licences.md lists them.

`make licences` writes the file. The names come from the installed distributions' own metadata: the environment of the
tests holds all of them, at the same versions.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LISTED = ROOT / "deploy" / "licences.md"
IMAGE = {"sys_platform": "linux", "python_full_version": "3.13.0", "python_version": "3.13"}
SPDX = {  # what distributions call their licence that do not name it by its SPDX identifier
    "Apache 2.0": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "License :: OSI Approved :: MIT License": "MIT",
}
KNOWN = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"}
"""None of them asks more of who ships the image than to pass on texts, and MPL-2.0 the source of files changed."""
HEAD = """# Licences

What the image holds beside its base image and this project, by SPDX identifier, as the distributions themselves say.
Generated from `requirements.lock` by `make licences`. The same is in the image's bill of materials.

| distribution | version | licence |
| --- | --- | --- |
"""


class UnknownLicenceError(Exception):
    """A distribution has a licence that nobody here has looked at."""


def shipped(lock: str, environment: Mapping[str, str] = IMAGE) -> Iterator[tuple[str, str]]:
    """Name and version of every pin in the text of a lock file that applies to an environment, the image's."""
    for entry in lock.replace("\\\n", " ").splitlines():
        pin = Requirement(entry.partition(" --hash")[0])
        if pin.marker is None or pin.marker.evaluate(dict(environment)):
            yield pin.name, str(pin.specifier).removeprefix("==")


def licence(name: str, about: Mapping[str, list[str]]) -> str:
    """The SPDX expression of a distribution, from its metadata by field. Raises UnknownLicenceError."""
    expressions, texts = about.get("License-Expression", []), about.get("License", [])
    classifiers = [line for line in about.get("Classifier", []) if line.startswith("License :: ")]
    said = next(iter([*expressions, *texts, *classifiers]), "")
    found = "BSD-3-Clause" if _is_bsd(said) else SPDX.get(said, said)
    if not set(found.replace(" AND ", " OR ").split(" OR ")) <= KNOWN:
        raise UnknownLicenceError(f"{name}: {said or 'says nothing'}")
    return found


def _is_bsd(text: str) -> bool:
    return "Redistribution and use in source and binary forms" in text and "Neither the name of" in text


def listing(lock: str) -> str:
    """The text of deploy/licences.md for the text of a lock file."""
    rows = []
    for name, version in shipped(lock):
        about = metadata(name)
        assert about["Version"] == version, f"{name} {about['Version']} is installed, not {version}: run make setup"
        fields = {field: about.get_all(field) or [] for field in ("License-Expression", "License", "Classifier")}
        rows.append(f"| {name} | {version} | {licence(name, fields)} |\n")
    return HEAD + "".join(rows)


def main() -> int:
    """Write deploy/licences.md."""
    LISTED.write_text(listing((ROOT / "requirements.lock").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
