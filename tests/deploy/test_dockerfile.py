"""What the Dockerfile promises, as far as it can be read; tests/deploy/test_image.py builds and runs it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from worker import __version__

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
BUILD, RESULT = re.split(r"^(?=FROM )", TEXT, flags=re.MULTILINE)[1:]
CONTEXT = {
    *("README.md", "pyproject.toml", "requirements.lock", "requirements-build.lock", "schemas", "worker"),
    "scripts/material_hashes.py",
}


def instructions(stage: str, name: str) -> list[str]:
    """The instructions of one kind, each on one line."""
    joined = stage.replace("\\\n", " ")
    return [" ".join(line.split()[1:]) for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of Dockerfiles finds nothing at all, and no rule is switched off."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint" not in TEXT


def test_both_stages_stand_on_the_one_base() -> None:
    """The official image is the default of the first, and the first is the default of the second."""
    assert "ARG PYTHON_IMAGE=python:3.13-slim-trixie\nARG RUNTIME_IMAGE=${PYTHON_IMAGE}\n" in TEXT
    assert [instructions(stage, "FROM") for stage in (BUILD, RESULT)] == [
        ["${PYTHON_IMAGE} AS build"],
        ["${RUNTIME_IMAGE}"],
    ]


def test_the_last_stage_needs_no_shell() -> None:
    """What it runs is a program with its arguments, so that a base image without a shell will do."""
    assert [command[:2] for command in instructions(RESULT, "RUN")] == ['["']


def test_make_image_names_commit_date_and_source() -> None:
    """Podman and Buildah date everything alike; Docker has no such option. What ARGS hold is passed on."""
    how = (
        "make",
        "--dry-run",
        "image",
        "SOURCE=https://code.example.com/worker",
        "ARGS=--build-arg PIP_INDEX_URL=https://i",
    )
    for engine, is_dated in (("docker", False), ("/usr/bin/podman", True), ("buildah --root x", True)):
        command = subprocess.run(
            [*how, f"ENGINE={engine}"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        assert ("--timestamp $(git log -1 --format=%ct)" in command) is is_dated
        assert "--label org.opencontainers.image.created=$(git log -1 --format=%cI)" in command
        assert '--label org.opencontainers.image.source="https://code.example.com/worker"' in command
        assert "--build-arg REVISION=$(git rev-parse HEAD)" in command
        assert " --build-arg PIP_INDEX_URL=https://i ." in command


def test_every_download_is_pinned_by_hash() -> None:
    """Each pip that may reach an index takes a lock file with hashes; no other may reach one."""
    calls = re.findall(
        r"-m pip (?:--python \S+ )?(install|wheel)(.*?)(?=&&|$)", BUILD.replace("\\\n", " "), re.MULTILINE
    )
    assert len(calls) == 4
    locked = [rest for _, rest in calls if "--require-hashes" in rest and re.search(r"--requirement \S+\.lock", rest)]
    offline = [rest for _, rest in calls if "--no-index" in rest]
    assert len(locked) == len(offline) == 2
    assert all("--no-deps" in rest for _, rest in calls)


def test_the_worker_gets_its_own_lock() -> None:
    """The environment that ships is made from the run-time lock, without pip; tools are in another."""
    (made,) = [line for line in instructions(BUILD, "RUN") if "requirements.lock" in line]
    assert "python -m venv --without-pip /opt/worker " in made
    assert re.search(r"pip --python /opt/worker/bin/python install [^&]*--requirement requirements\.lock", made)
    assert instructions(RESULT, "COPY") == ["--from=build /opt/worker /opt/worker"]


def test_user_is_a_number_without_other_rights() -> None:
    """Kubernetes can tell that a numeric user is not root."""
    assert instructions(RESULT, "USER")[-1] == "10001:10001"


def test_the_worker_is_the_first_process() -> None:
    """No shell stands between SIGTERM and the worker."""
    assert instructions(RESULT, "ENTRYPOINT") == ['["dcs-worker"]']
    assert instructions(RESULT, "CMD") == ['["run"]']
    assert instructions(RESULT, "STOPSIGNAL") == ["SIGTERM"]


def test_the_version_is_one() -> None:
    """Label, project, and what the worker says of itself in build_info are the same version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert __version__ == version
    assert f"VERSION={version}" in instructions(RESULT, "ARG")


def test_interpreter_is_found_by_the_path() -> None:
    """The official image and Debian's have Python at different places: neither is named."""
    assert "/usr/bin/python" not in TEXT
    assert "/usr/local" not in TEXT


def test_context_is_what_the_build_copies() -> None:
    """The build is sent what it copies and nothing else: no tests, no secrets, no history."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == CONTEXT
    copied = {word for line in instructions(BUILD, "COPY") for word in line.split()[:-1]}
    assert copied == CONTEXT


@pytest.mark.parametrize("name", sorted(CONTEXT))
def test_what_is_copied_exists(name: str) -> None:
    """Each entry of the context is in the repository."""
    assert (ROOT / name).exists()
