"""Mutual TLS, and the rotation of every credential under load: broker, client certificate, Redis, DCS."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.harness.running_system import RunningSystem, WorkerProcess, free_port, request, until

COUNT = 500
SUBJECTS = ("list_connections", "user", "peer_cert_subject")


def write_pair(certificate: trustme.LeafCert, folder: Path, name: str) -> None:
    """Write certificate and key, each in one step."""
    parts = {"cert": b"".join(blob.bytes() for blob in certificate.cert_chain_pems)}
    parts["key"] = certificate.private_key_pem.bytes()
    for kind, content in parts.items():
        replace(folder / f"{name}_{kind}.pem", content)


def replace(path: Path, content: bytes) -> None:
    """Replace a file as the kubelet and cert-manager do."""
    new = path.with_name(f".{path.name}")
    new.write_bytes(content)
    new.replace(path)


@dataclass
class TlsBroker:
    """A node that takes clients with a certificate of `authority` only."""

    node: RabbitMqServer
    port: int
    authority: trustme.CA
    folder: Path

    def settings(self, folder: Path) -> dict[str, str]:
        """The settings of a worker with a certificate in `folder`."""
        pair = {"WORKER_AMQP_CERT_FILE": "client_cert.pem", "WORKER_AMQP_KEY_FILE": "client_key.pem"}
        ca_file = {"WORKER_AMQP_CA_FILE": str(self.folder / "ca.pem")}
        return ca_file | {name: str(folder / file) for name, file in pair.items()}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    """The node that the tests of this file share."""
    folder, authority, port = tmp_path_factory.mktemp("broker"), trustme.CA(), free_port()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    write_pair(authority.issue_cert("localhost", "127.0.0.1"), folder, "server")
    config = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder / 'ca.pem'}",
        f"ssl_options.certfile = {folder / 'server_cert.pem'}",
        f"ssl_options.keyfile = {folder / 'server_key.pem'}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]
    with RabbitMqServer(config=config) as node:
        yield TlsBroker(node, port, authority, folder)


async def test_mutual_tls_connects_with_client_certificate(broker: TlsBroker, tmp_path: Path) -> None:
    """amqps with a client certificate of a private authority; without the certificate there is no connection."""
    write_pair(broker.authority.issue_cert("worker"), tmp_path, "client")
    async with RunningSystem(broker.node.url, tmp_path) as system:
        url = {"WORKER_AMQP_URL": f"amqps://guest:guest@localhost:{broker.port}/"}
        bare = system.worker(**url, WORKER_AMQP_CA_FILE=broker.folder / "ca.pem")
        await until(lambda: bare.get("/livez")[0] == 200, 10, bare.explain)
        worker = system.worker(**url, **broker.settings(tmp_path))
        await worker.ready()
        await system.publish(request("secure", request_id="secure"))
        await system.answered(1)
        assert bare.get("/readyz")[0] == 503


@pytest.mark.timeout(150)
async def test_every_credential_rotates_under_load(broker: TlsBroker, redis_node: RedisServer, tmp_path: Path) -> None:
    """500 requests flow while each credential is replaced in its file and the old one is refused: none is lost."""
    node, subject = broker.node, "CN=renewed"
    write_pair(broker.authority.issue_cert("worker", common_name="first"), tmp_path, "client")
    for command in (("add_user", "worker", "old"), ("set_permissions", "worker", ".*", ".*", ".*")):
        await node.ctl(*command)
    (tmp_path / "worker_amqp_url").write_text(f"amqps://worker:old@localhost:{broker.port}/")
    (tmp_path / "worker_claims_url").write_text(redis_node.url.replace("//", "//:old@"))
    (tmp_path / "worker_auth_token").write_text("old-token")
    auth = {"mode": "token", "token": "old-token"}
    async with (
        Redis.from_url(redis_node.url) as redis,
        RunningSystem(node.url, tmp_path, FaultyDcs(latency=0.7, auth=auth)) as system,
    ):
        await redis.config_set("requirepass", "old")
        unset = dict.fromkeys(("WORKER_AMQP_URL", "WORKER_AUTH_TOKEN"))
        worker = system.worker(**unset, **broker.settings(tmp_path), WORKER_PREFETCH=32)
        await worker.ready()
        task_names = [f"rotated-{number}" for number in range(COUNT)]
        for name in task_names:
            await system.publish(request(name, request_id=name))

        await node.ctl("change_password", "worker", "new")
        replace(tmp_path / "worker_amqp_url", f"amqps://worker:new@localhost:{broker.port}/".encode())
        write_pair(broker.authority.issue_cert("worker", common_name="renewed"), tmp_path, "client")
        await node.ctl("close_all_user_connections", "worker", "rotated")

        replace(tmp_path / "worker_claims_url", redis_node.url.replace("//", "//:new@").encode())
        await redis.config_set("requirepass", "new")
        await redis.client_kill_filter(_type="normal", skipme=True)
        replace(tmp_path / "worker_auth_token", b"new-token")
        await system.fake_dcs.apply({"auth": {"mode": "token", "token": "new-token"}})
        assert len(system.by_request()) < COUNT, "all were answered before the rotation"
        await system.fake_dcs.apply({"latency": 0.0})

        found = await system.answered(COUNT)
        assert {event.key for events in found.values() for event in events} == {"migration.succeeded"}
        system.assert_one_task_each(task_names)
        await until(lambda: reloaded(worker) == {"AMQP_URL", "CLAIMS_URL", "AUTH_TOKEN"}, 10, worker.explain)
        lines = (await node.ctl(*SUBJECTS)).splitlines()
        subjects = [line for line in lines if line.startswith("worker\t")]
        assert subjects
        assert all(subject in line for line in subjects), lines
        assert worker.metric("dcs_worker_claims_available") == 1
        assert worker.process.poll() is None


def reloaded(worker: WorkerProcess) -> set[str]:
    """The settings of which the log says that they were rotated."""
    lines = [line for line in worker.log() if line["event"] == "secrets.reloaded" and "variable" in line]
    return {line["variable"].removeprefix("WORKER_") for line in lines}
