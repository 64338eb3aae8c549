"""Packages of npm as locked, in a folder outside of the tree; made once per lock file."""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path


def installed(sources: Path) -> Path:
    """The folder with the packages of `sources`, and with what is committed beside their lock file."""
    lock = sha256((sources / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcs-migration-worker"
    folder = cache / f"{sources.name}-{lock}"
    if not folder.exists():
        new = cache / f"{sources.name}-{lock}.{os.getpid()}"
        shutil.copytree(sources, new)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=new, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        new.rename(folder)
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    return folder
