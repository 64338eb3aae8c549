"""Supply chain: the wheel the same bytes wherever it is built, pins of the lock read."""

import zipfile
from pathlib import Path

from tests.deploy.lock_file_pins import shipped
from tests.deploy.wheel_build import EPOCH, ROOT, build, digest


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
    assert "worker/web/status_page.css" in names


def test_image_and_make_build_the_same_wheel() -> None:
    """The Dockerfile takes the same date as the Makefile."""
    assert f"SOURCE_DATE_EPOCH={EPOCH} " in (ROOT / "Dockerfile").read_text()


def test_only_pins_that_apply_to_the_image_are_shipped() -> None:
    """A pin for another platform or an older Python is not shipped."""
    pins = ("a==1", "b==2 ; sys_platform == 'win32'", "c==3 ; python_version < '3.12'")
    lock = "".join(f"{pin} \\\n    --hash=sha256:0\n" for pin in pins)
    assert list(shipped(lock)) == [("a", "1")]
