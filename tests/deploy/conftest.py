"""Servers for the tests in this folder, and the image, which is built once."""

from collections.abc import Iterator

import pytest

from tests.deploy.containers import ROOT, Containers
from tests.fakes.servers import RabbitMqServer

BASE = ROOT / ".venv" / "slim.tar"


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """Containers of the image, built from the Dockerfile on a stand-in for the official base image."""
    assert BASE.exists(), "the stand-in for the base image is not made yet: run make test-deploy"
    with Containers() as containers:
        containers.make_base(BASE)
        containers.build("--layers", "--build-arg=REVISION=0123abc")
        yield containers


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMqServer]:
    """A RabbitMQ node for the module."""
    with RabbitMqServer() as node:
        yield node
