"""`doctor` against real servers: all of them well, or out of reach; it changes nothing."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
import redis
from aio_pika.abc import AbstractIncomingMessage

from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer, RedisServer
from tests.live.conftest import Vhosts
from tests.live.doctor_command import PASSWORD, QUEUE, apply, doctor, state, vhost_of
from tools.harness.parked_queue import ParkedQueueSetup
from tools.harness.running_system import PROJECT, free_port, request


@pytest.fixture(scope="module")
def ready(vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a vhost where all that a worker needs is declared."""
    url = vhosts.take()
    apply(url, tmp_path_factory.mktemp("ready"))
    return url


@pytest.fixture(scope="module")
def troubled() -> Iterator[RabbitMqServer]:
    """A node for those tests that freeze or overload it, and end that."""
    with RabbitMqServer() as node:
        yield node


@pytest.fixture
def frozen(troubled: RabbitMqServer) -> Iterator[RabbitMqServer]:
    """The same, frozen."""
    troubled.freeze()
    yield troubled
    troubled.thaw()


async def test_healthy_system_passes_and_is_not_changed(
    rabbit: RabbitMqServer, ready: str, redis_node: RedisServer, tmp_path: Path
) -> None:
    """The exit status is 0; broker, Redis and DCS are unchanged, and no request is consumed or added."""
    async with await aio_pika.connect(ready) as connection, connection.channel() as channel:
        for number in range(2):
            message = aio_pika.Message(json.dumps(request(f"task-{number}")).encode(), delivery_mode=2)
            await channel.default_exchange.publish(message, QUEUE)
        async with FaultyDcs(auth={"mode": "token"}) as fake_dcs:
            variables = {
                "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": fake_dcs.url}),
                "WORKER_CLAIMS_URL": redis_node.url,
            }
            before = await asyncio.to_thread(state, rabbit)

            answer = await asyncio.to_thread(lambda: doctor(ready, tmp_path, "--project", PROJECT, **variables))

            assert await asyncio.to_thread(state, rabbit) == before
            assert (answer.status, answer.failed()) == (0, set())
            assert fake_dcs.tasks == []
            assert [call.operation for call in fake_dcs.calls] == ["list", "show"]
        queue = await channel.get_queue(QUEUE)
        assert [(await queue.get(no_ack=True, timeout=10)).redelivered for _ in range(2)] == [False, False]
        assert await queue.get(fail=False) is None
    with redis.Redis(port=redis_node.port) as client:
        assert client.dbsize() == 0
    assert "messages ready: 2, consumers: 0" in answer.found[f"queue {QUEUE}"]["found"]
    assert answer.found["Redis"]["result"] == answer.found["permission to list cn-north-4"]["result"] == "ok"


async def test_several_consumers_without_claims_give_warning(ready: str, tmp_path: Path) -> None:
    """Two replicas that do not share claims may both work on copies of one request."""

    async def ignore(_: AbstractIncomingMessage) -> None:
        """Nothing is ever delivered."""

    async with await aio_pika.connect(ready) as connection, connection.channel() as channel:
        queue = await channel.get_queue(QUEUE)
        for _ in range(2):
            await queue.consume(ignore)
        answer = await asyncio.to_thread(doctor, ready, tmp_path)

    assert answer.found["claims"]["result"] == "warning"
    assert "WORKER_CLAIMS_URL" in answer.found["claims"]["remedy"]


def test_wrong_password_is_tried_once(rabbit: RabbitMqServer, ready: str, tmp_path: Path) -> None:
    """However many nodes there are; it is not printed, and the exit status is 69."""
    wrong = ready.replace("guest:guest", f"guest:{PASSWORD}")
    answer = doctor(f"{wrong},{wrong.replace('127.0.0.1', 'localhost')}", tmp_path)

    assert answer.status == 69
    assert PASSWORD not in answer.output
    assert "refuses the user 'guest'" in answer.found[f"broker 127.0.0.1:{rabbit.port}"]["found"]
    assert "not tried" in answer.found[f"broker localhost:{rabbit.port}"]["found"]


def test_missing_vhost_is_reported(rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """The remedy makes it."""
    answer = doctor(rabbit.vhost_url("nowhere"), tmp_path)

    found = answer.found[f"broker 127.0.0.1:{rabbit.port}"]
    assert answer.status == 69
    assert found["found"] == "vhost: the broker refuses the connection: NOT_ALLOWED - vhost nowhere not found"
    assert "rabbitmqctl add_vhost nowhere" in found["remedy"]


def test_one_reachable_node_of_two_passes(rabbit: RabbitMqServer, ready: str, tmp_path: Path) -> None:
    """The unreachable node is a warning, and the other one answers all checks."""
    away = f"amqp://guest:guest@127.0.0.1:{free_port()}/{vhost_of(ready)}"
    answer = doctor(f"{away},{ready}", tmp_path)

    results = [one["result"] for name, one in answer.found.items() if name.startswith("broker 127")]
    assert results == ["warning", "ok"]
    assert answer.found[f"queue {QUEUE}"]["result"] == "ok"
    assert answer.found[f"broker version 127.0.0.1:{rabbit.port}"]["found"].startswith("RabbitMQ ")


def test_frozen_broker_and_silent_services_are_reported_within_a_minute(frozen: RabbitMqServer, tmp_path: Path) -> None:
    """Every service that accepts connections and does not answer is reported by name."""
    mute = f"http://127.0.0.1:{frozen.port}"
    variables = {
        "WORKER_CLAIMS_URL": f"redis://127.0.0.1:{frozen.port}",
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": mute}),
        "WORKER_DCS_TIMEOUT": "5",
        "WORKER_AUTH_TOKEN": "",
        "WORKER_IAM_ENDPOINT": mute,
        "WORKER_IAM_USER": "someone",
        "WORKER_IAM_DOMAIN": "somewhere",
        "WORKER_IAM_PASSWORD": PASSWORD,
    }
    started = time.monotonic()

    url = frozen.url
    answer = doctor(f"{url},{url}/x", tmp_path, "--project", PROJECT, **variables)

    assert time.monotonic() - started < 60
    assert answer.status == 69
    assert {name.split()[0] for name in answer.failed()} == {"broker", "Redis", "DCS", "credentials"}
    assert PASSWORD not in answer.output


def test_memory_alarm_is_a_failure_until_it_ends(troubled: RabbitMqServer, tmp_path: Path) -> None:
    """It is found without the management API: no message is confirmed. Everything else is checked before."""
    apply(troubled.url, tmp_path)
    troubled.run_ctl("set_vm_memory_high_watermark", "absolute", "1000")
    alarmed = doctor(troubled.url, tmp_path)
    troubled.run_ctl("set_vm_memory_high_watermark", "0.4")
    well = doctor(troubled.url, tmp_path)

    check = f"publishing 127.0.0.1:{troubled.port}"
    assert (alarmed.status, alarmed.found[f"queue {QUEUE}"]["result"]) == (69, "ok")
    assert "memory or disk alarm" in alarmed.found[check]["found"]
    assert "rabbitmq-diagnostics alarms" in alarmed.found[check]["remedy"]
    assert well.found[check]["result"] == "ok"


def test_parked_requests_are_a_warning_with_the_command(vhost: str, tmp_path: Path) -> None:
    """They are counted as the broker counts them."""
    apply(vhost, tmp_path)
    ParkedQueueSetup(vhost, {}).park_many(2)
    answer = doctor(vhost, tmp_path)

    parked = answer.found["parked requests"]
    assert (parked["result"], parked["remedy"]) == ("warning", "dcs-worker parked list")
    assert parked["found"] == "2 requests need an operator"


def test_redis_that_refuses_or_is_a_replica_is_reported(redis_node: RedisServer, tmp_path: Path) -> None:
    """A Redis that cannot be written to, and a password that it does not accept."""
    nowhere = f"amqp://127.0.0.1:{free_port()}/"
    with redis.Redis(port=redis_node.port) as client:
        client.replicaof("127.0.0.1", "1")
        replica = doctor(nowhere, tmp_path, WORKER_CLAIMS_URL=redis_node.url)
        client.config_set("requirepass", "right")
    with_password = redis_node.url.replace("//", f"//:{PASSWORD}@")
    refused = doctor(nowhere, tmp_path, WORKER_CLAIMS_URL=with_password)

    assert (replica.found["Redis"]["result"], replica.found["Redis role"]["result"]) == ("ok", "failed")
    assert refused.found["Redis"]["found"] == "Redis does not accept the credentials"
    assert PASSWORD not in refused.output
