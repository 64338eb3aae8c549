"""Checks of the broker: login at every node, then, at the first node that accepts it, version and topology."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

from worker.cli.doctor.network import Address, find_problem
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked, warning
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import LoginRefused, LoginResult, Node, broker_version, log_in
from worker.rabbit.tools.management import check_management, without_management
from worker.rabbit.tools.topology_diff import check_topology
from worker.rabbit.topology import Topology

CONNECTION_NAME: Final = "dcs-worker doctor"
LOGIN_TIMEOUT_SECONDS: Final = 6.0
URL_VARIABLE: Final = "WORKER_AMQP_URL"


async def check_broker(brokers: Brokers, topology: Topology, management: str | None, on_check: OnCheck) -> int | None:
    """Report every finding; return the number of consumers of the requests queue, None if unknown.

    `management`: base URL of the broker's management API, if bindings and policies are to be read there.
    """
    nodes = [Node.of(url) for url in brokers.urls]
    async with AsyncExitStack() as stack:
        logins = await _log_in(stack, brokers, nodes)
        for check in _node_checks(nodes, logins):
            on_check(check)
        connected = [(node, login) for node, login in zip(nodes, logins, strict=True) if not isinstance(login, Problem)]
        for node, connection in connected:
            on_check(broker_version(connection, str(node)))
        if not connected:
            on_check(unchecked("topology", "no login succeeded, so queues, exchanges and bindings were not compared"))
            return None
        node, connection = connected[0]
        consumers = await check_topology(connection, topology, node, on_check)
        if management is not None:
            await check_management(management, node, topology, brokers.tls, on_check)
        else:
            on_check(without_management(node))
        return consumers


async def _log_in(stack: AsyncExitStack, brokers: Brokers, nodes: Sequence[Node]) -> list[LoginResult]:
    """The connection to each node, or the problem. A refused login is not tried at the other nodes."""
    network_problems = await asyncio.gather(
        *(find_problem(Address(node.host, node.port, URL_VARIABLE), brokers.tls) for node in nodes)
    )
    refused: dict[tuple[str | None, str], Problem] = {}
    logins: list[LoginResult] = []
    for index, (node, problem) in enumerate(zip(nodes, network_problems, strict=True)):
        user_and_password = (node.user, node.password)
        login = (
            problem
            or refused.get(user_and_password)
            or await log_in(stack, brokers, index, CONNECTION_NAME, LOGIN_TIMEOUT_SECONDS)
        )
        if isinstance(login, LoginRefused):
            refused[user_and_password] = Problem(
                "login: not tried, because another node refused the same login", login.remedy
            )
        logins.append(login)
    return logins


def _node_checks(nodes: Sequence[Node], logins: Sequence[LoginResult]) -> Iterator[Check]:
    """An unreachable node is a failure only if no node can be reached, else a warning."""
    has_connection = any(not isinstance(login, Problem) for login in logins)
    for node, login in zip(nodes, logins, strict=True):
        if not isinstance(login, Problem):
            yield ok("broker", f"login of {_login_name(node)} to vhost {node.vhost!r} succeeded", subject=str(node))
        elif has_connection:
            yield warning("broker", login.found, login.remedy, subject=str(node))
        else:
            yield failed("broker", login.found, login.remedy, subject=str(node), failure_kind=FailureKind.UNREACHABLE)


def _login_name(node: Node) -> str:
    return f"user {node.user!r}" if node.user is not None else "the owner of the certificate"
