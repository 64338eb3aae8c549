# mypy: disable-error-code="import-not-found,untyped-decorator"
"""Dramatiq with requests: https://dramatiq.io/guide.html (started by `dramatiq`).

It has no setting for quorum queues: they come from the default queue type of its virtual host.
"""

import sys
import threading
from typing import Any

import dramatiq
import requests
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from tools.bench import load

broker = RabbitmqBroker(url=load.AMQP_URL, confirm_delivery=True)
dramatiq.set_broker(broker)
kept = threading.local()


def session() -> requests.Session:
    """The HTTP session of this thread: sessions are not shared between threads."""
    if not hasattr(kept, "session"):
        kept.session = requests.Session()
        kept.session.headers.update(load.HEADERS)
    found: requests.Session = kept.session
    return found


@dramatiq.actor(queue_name=load.REQUESTS)
def create(request: dict[str, Any]) -> None:
    """Create the task of a request; the next actor's message is the event."""
    answer = session().post(load.service_url(request["project_id"]), json=request["task"])
    answer.raise_for_status()
    migrated.send(load.event(request, answer.json()))


@dramatiq.actor(queue_name=load.EVENTS)
def migrated(event: dict[str, Any]) -> None:
    """Whoever waits for the event takes it from here."""


if __name__ == "__main__":
    broker.declare_queue(load.EVENTS, ensure=True)
    for one in load.paced(int(sys.argv[1]), float(sys.argv[2])):
        create.send(one)
    broker.close()
