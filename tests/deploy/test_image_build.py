"""How the image is built: the same each time, from another index, on a base without a shell, for other processors."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.deploy.containers import IMAGE, PYTHON, ROOT, Containers
from tests.deploy.test_dockerfile import CONTEXT
from tests.deploy.wheel_build import copy_sources
from worker import __version__

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

OTHER = "localhost/dcs-migration-worker:other"
NO_SHELL = "localhost/python:no-shell"
ARM64 = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_28_aarch64")


def test_layers_are_the_same_each_time(containers: Containers, tmp_path: Path) -> None:
    """Neither place nor time nor modes of the sources show in them."""
    copy_sources(tmp_path, 0o077, (*CONTEXT, "Dockerfile", ".dockerignore"))
    options = ("--no-cache", "--layers", "--build-arg=REVISION=0123abc")
    containers.build(*options, image=OTHER, context=tmp_path)
    first, second = (containers.look(image)["RootFS"]["Layers"] for image in (IMAGE, OTHER))
    assert first == second


def test_last_stage_needs_no_shell(containers: Containers) -> None:
    """A base image with Python and no shell will do, and its pip goes as well."""
    made = containers.buildah("from", PYTHON)
    containers.buildah("run", made, "--", "rm", "/usr/bin/sh", "/usr/bin/dash", "/usr/bin/bash")
    containers.buildah("commit", "--quiet", made, NO_SHELL)
    containers.buildah("rm", made)
    containers.build("--layers", f"--build-arg=RUNTIME_IMAGE={NO_SHELL}", image=OTHER)
    with pytest.raises(subprocess.CalledProcessError, match="127"):
        containers.ask("sh", "-c", "true", image=OTHER)
    assert __version__ in containers.ask("dcs-worker", "--version", image=OTHER)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        containers.ask("python3", "-m", "pip", image=OTHER)
    assert "No module named pip" in failed.value.stderr


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a package index that has nothing, and what it was asked for."""
    paths: list[str] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple", paths
        server.shutdown()


def test_packages_come_from_the_index_that_is_named(containers: Containers, asked: tuple[str, list[str]]) -> None:
    """PIP_INDEX_URL is asked, and no other: without the packages there the build fails."""
    index, paths = asked
    with pytest.raises(subprocess.CalledProcessError):
        containers.build(f"--build-arg=PIP_INDEX_URL={index}", image=OTHER)
    assert {path.split("/")[1] for path in paths} == {"simple"}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_arm64_has_all_wheels(lock: str, tmp_path: Path) -> None:
    """Every pin has a wheel for arm64 Linux whose hash is in the lock."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--require-hashes")
    platforms = [f"--platform={platform}" for platform in ARM64]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *platforms),
            *("--python-version=3.13", f"--target={tmp_path}", "--requirement", ROOT / lock),
        ],
        check=True,
        capture_output=True,
    )
