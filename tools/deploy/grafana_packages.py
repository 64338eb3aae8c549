"""Grafana's packages as locked, in a folder outside of the tree; made once per lock file."""

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "drawing"
LOADERS = [f"--loader:.{kind}=dataurl" for kind in ("svg", "png", "woff2", "ttf")]
BUNDLE = [
    *("node_modules/.bin/esbuild", "draw.jsx", "--bundle", "--format=esm", "--minify", "--outfile=draw.js"),
    *(*LOADERS, '--define:process.env.NODE_ENV="production"'),
]

PUBLIC = {  # where Grafana's server has what its front end asks for
    "build/img": "@grafana/ui/dist/public/img",
    "fonts/inter/Inter-Regular.woff2": "@fontsource/inter/files/inter-latin-400-normal.woff2",
    "fonts/inter/Inter-Medium.woff2": "@fontsource/inter/files/inter-latin-500-normal.woff2",
}


def tools() -> Path:
    """The folder, with what is committed beside the lock file in it."""
    lock = sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcs-migration-worker"
    folder = cache / f"drawing-{lock}"
    if not folder.exists():
        new = cache / f"drawing-{lock}.{os.getpid()}"
        shutil.copytree(SOURCES, new)
        _run(["npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"], new)
        new.rename(folder)
    for path in SOURCES.glob("*.*s*"):
        shutil.copy(path, folder)
    return folder


def schemas() -> dict[str, Any]:
    """JSON Schemas of the dashboard, and of options and custom fields by kind of panel."""
    found: dict[str, Any] = json.loads(_run(["node", "schema.mjs"], tools()))
    return found


def bundle() -> Path:
    """The folder with the page's script and style built."""
    folder = tools()
    _run(BUNDLE, folder)
    for place, source in PUBLIC.items():
        link = folder / "public" / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder / "node_modules" / source)
    return folder


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
