"""The wheel, built from the sources as `make wheel` does, at a place and with file modes of its own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
(EPOCH,) = re.findall(r"SOURCE_DATE_EPOCH=(\d+) ", (ROOT / "Makefile").read_text())
SOURCES = ("pyproject.toml", "README.md", "worker", "schemas")


def copy_sources(folder: Path, umask: int, sources: Iterable[str] = SOURCES) -> None:
    """Copy sources to a folder, with times and modes of their own."""
    for name in sources:
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        os.utime(path, (umask * 10_000_000, umask * 10_000_000))
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def build(folder: Path, umask: int = 0o022) -> Path:
    """Copy the sources to a folder and build the wheel there as make does."""
    copy_sources(folder, umask)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist")]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *options, folder],
        env={"PATH": os.defpath, "SOURCE_DATE_EPOCH": EPOCH, "HOME": str(folder)},
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def digest(wheel: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()
