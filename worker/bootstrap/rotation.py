"""Rotation while the worker runs: what connections are made of is read again, and each change is reported once."""

from collections.abc import Callable, Mapping
from typing import Any

from worker.bootstrap import components
from worker.config import Configuration, ConfigurationError, RotatingSecrets, secret_texts
from worker.config.secrets import file_stamp
from worker.config.settings import variable
from worker.config.urls import Proxies
from worker.observe.observer import WorkerObserver
from worker.rabbit.connection import Brokers


class CurrentBrokers:
    """The broker's nodes with the login and the TLS files of now; while these cannot be used, those from before.

    Raises ConfigurationError only when it is made.
    """

    def __init__(self, loaded: Configuration) -> None:
        self._loaded = loaded
        self._last = components.brokers(loaded.settings)
        self.problem: str | None = None

    def __call__(self) -> Brokers:
        """The nodes for the next attempt to connect."""
        try:
            self._last, self.problem = components.brokers(self._loaded.current), None
        except ConfigurationError as error:
            self.problem = str(error)
        return self._last

    def current(self) -> Mapping[str, Any]:
        """Nothing: the login is reported by its secret file, and of certificates only a problem."""
        return {}


class CurrentServices:
    """The transport to DCS and IAM, which follows the certificate file and the proxies; `problem` as above.

    Raises ConfigurationError only when it is made.
    """

    def __init__(self, loaded: Configuration) -> None:
        self.problem: str | None = None
        self._loaded = loaded
        self._seen = self._look()
        self.transport = components.service_transport(loaded)

    def current(self) -> Mapping[str, Any]:
        """The file's stamp; proxies are reported by their secret files. No file is read while nothing changed."""
        if (now := self._look()) != self._seen:
            self._seen = now
            try:
                self.transport.use(components.service_tls(self._loaded.settings), self._loaded.proxies.proxy_for)
                self.problem = None
            except ConfigurationError as error:
                self.problem = str(error)
        return {"dcs_ca_file": self._seen[0]} if self.problem is None else {}

    def _look(self) -> tuple[object, Proxies]:
        path = self._loaded.settings.dcs_ca_file
        try:
            return path and file_stamp(path), self._loaded.proxies
        except OSError:
            return None, self._loaded.proxies


Rotating = RotatingSecrets[Any] | CurrentBrokers | CurrentServices
"""Values that follow their files."""


class RotationReport:
    """Reports what was rotated, and what cannot be read; `on_rotation` is called after each rotation."""

    def __init__(
        self, rotating: Rotating, observer: WorkerObserver, on_rotation: Callable[[], None] = lambda: None
    ) -> None:
        self._rotating = rotating
        self._observer = observer
        self._on_rotation = on_rotation
        self._values = rotating.current()
        self._problem: str | None = None

    def check(self) -> None:
        """Report what changed since the last check."""
        note = self._observer.note
        if (current := self._rotating.current()) != self._values:
            for field in sorted(name for name in current if current[name] != self._values.get(name)):
                when = "connection" if field.endswith("_url") else "call"
                message = f"{variable(field)} was rotated; the next {when} uses the new value"
                note("info", "secrets.reloaded", message=message, variable=variable(field))
            self._values = current
            self._observer.redactor.add(secret_texts(current.values()))
            self._on_rotation()
        if self._rotating.problem != self._problem:
            self._problem = self._rotating.problem
            if self._problem is None:
                note("info", "secrets.reloaded", message="The secret files can be read again")
            else:
                message = f"The secrets from before stay in use: {self._problem}"
                note("warning", "secrets.reload_failed", message=message, error=self._problem)


def rotation_reports(
    loaded: Configuration,
    connections: tuple[CurrentBrokers, CurrentServices],
    observer: WorkerObserver,
    on_credentials: Callable[[], None],
) -> list[RotationReport]:
    """Reports on all that rotates; `on_credentials` is called when those of DCS did."""
    others: tuple[Rotating, ...] = (*loaded.urls, *connections)
    return [RotationReport(loaded.secrets, observer, on_credentials), *(RotationReport(it, observer) for it in others)]
