"""Buildah and Podman over a store of their own, which leaves nothing behind."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PYTHON = "localhost/python:3.13-slim-trixie"  # the short name that the Dockerfile uses, as it is without a registry
IMAGE = "localhost/dcs-migration-worker:test"
AUTHORITIES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
NARROW = (
    "--network=host",
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
    "--memory=128m",
    "--pids-limit=64",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
SEALED = (*NARROW, "--read-only", "--read-only-tmpfs=false")
"""Not even /tmp can be written."""


class Containers:
    """Images and containers of one session; use it as a context manager."""

    def __init__(self) -> None:
        self.told = ""  # what the build printed
        self._folder = Path(tempfile.mkdtemp(prefix="dcs-worker-containers-"))
        self._store = ("--root", str(self._folder / "store"), "--runroot", str(self._folder / "run"))
        self._env = {
            "PATH": f"{os.defpath}:/usr/sbin:/sbin",
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": "overlay",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Take away containers, their mounts, images and the folder."""
        with suppress(subprocess.CalledProcessError):
            self.podman("rm", "--all", "--force", "--time", "0")
        with suppress(subprocess.CalledProcessError):
            self.buildah("rm", "--all")
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False)  # a process that ends may still use it
        shutil.rmtree(self._folder)

    def mounts(self) -> list[str]:
        """What is mounted under the folder."""
        points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [point for point in points if point.startswith(f"{self._folder}/")]

    def buildah(self, *args: str) -> str:
        """What `buildah ARGS` printed."""
        return self._run(["buildah", *self._store, *args], 300)

    def podman(self, *args: str) -> str:
        """What `podman ARGS` printed."""
        options = ("--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc")
        return self._run(["podman", *self._store, *options, *args], 60)

    def make_base(self, tarball: Path) -> None:
        """Make the stand-in for the image of Python: Debian's own, whose command is called python too."""
        made = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", made, str(tarball), "/")
        self.buildah("run", made, "--", "ln", "-sf", "python3", "/usr/bin/python")
        self.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", made)
        self.buildah("commit", "--quiet", made, PYTHON)
        self.buildah("rm", made)

    def build(self, *options: str, image: str = IMAGE, context: Path = ROOT) -> None:
        """Build the Dockerfile as IMAGE, dated as `make image` does it."""
        trusted = f"{AUTHORITIES}:/etc/ssl/certs/ca-certificates.crt:ro"  # for pip, during the build alone
        how = ("--pull-never", "--network=host", "--format=docker", "--timestamp=1580601600", f"--volume={trusted}")
        self.told = self.buildah("bud", *how, *options, "--tag", image, str(context))

    def look(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image."""
        (found,) = json.loads(self.podman("image", "inspect", image))
        return dict(found)

    def ask(self, *command: str, options: Sequence[str] = SEALED, image: str = IMAGE) -> str:
        """What another command than the worker prints in a container of its own."""
        program, *args = command
        return self.podman("run", "--rm", *options, f"--entrypoint={program}", image, *args).strip()

    def _run(self, command: list[str], seconds: float) -> str:
        done = subprocess.run(
            command,
            env=self._env,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr[-3000:])
        return done.stdout.strip()
