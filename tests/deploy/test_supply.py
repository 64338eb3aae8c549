"""Supply chain: licences listed and known, the wheel the same bytes wherever it is built, materials listed."""

import zipfile
from pathlib import Path

import pytest

from tests.deploy.licences import LISTED, ROOT, UnknownLicenceError, licence, listing, shipped
from tests.deploy.wheel import EPOCH, build, digest


def test_the_wheel_is_the_same_bytes(tmp_path: Path) -> None:
    """Neither place nor time nor file modes show in it, and it holds the worker and its schemas alone."""
    wheels = []
    for name, umask in (("here", 0o022), ("elsewhere-with-another-name", 0o077)):
        (tmp_path / name).mkdir()
        wheels.append(build(tmp_path / name, umask))
    assert wheels[0].name == wheels[1].name
    assert digest(wheels[0]) == digest(wheels[1])
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"worker", "schemas", "dcs_migration_worker"}
    assert "worker/web/page.css" in names


def test_image_and_make_build_the_same_wheel() -> None:
    """The Dockerfile takes the same date as the Makefile."""
    assert f"SOURCE_DATE_EPOCH={EPOCH} " in (ROOT / "Dockerfile").read_text()


def test_the_list_of_licences_is_fresh() -> None:
    """deploy/licences.md is what the lock and the installed distributions say now."""
    assert LISTED.read_text() == listing((ROOT / "requirements.lock").read_text()), "run make licences"


def test_only_what_the_image_installs_is_listed() -> None:
    """A pin for another platform or an older Python is not shipped."""
    pins = ("a==1", "b==2 ; sys_platform == 'win32'", "c==3 ; python_version < '3.12'")
    lock = "".join(f"{pin} \\\n    --hash=sha256:0\n" for pin in pins)
    assert list(shipped(lock)) == [("a", "1")]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"License-Expression": ["MIT OR Apache-2.0"], "License": ["anything"]}, "MIT OR Apache-2.0"),
        ({"License": ["Apache 2.0"]}, "Apache-2.0"),
        ({"Classifier": ["Topic :: Internet", "License :: OSI Approved :: MIT License"]}, "MIT"),
        (
            {
                "License": [
                    "Redistribution and use in source and binary forms ... Neither the name of the copyright ..."
                ]
            },
            "BSD-3-Clause",
        ),
    ],
)
def test_licences_are_read(about: dict[str, list[str]], expected: str) -> None:
    """The expression comes first, then the field, then the classifier."""
    assert licence("x", about) == expected


@pytest.mark.parametrize("said", [[], ["AGPL-3.0-only"], ["MIT AND GPL-3.0-only"]])
def test_a_licence_that_nobody_knows_is_refused(said: list[str]) -> None:
    """A dependency that brings another kind of licence, or none, does not slip in."""
    with pytest.raises(UnknownLicenceError, match="new: "):
        licence("new", {"License-Expression": said})
