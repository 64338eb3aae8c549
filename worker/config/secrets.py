"""Values of secret files that rotate while the worker runs: secrets of DCS, and the URLs of broker, Redis and proxies.

A value from a secret file follows the file; any other value stays as it was at the start. The secrets are always one
consistent set: a new access key is not paired with an old secret key because the files were read half-way through
a change, or are changed one after the other within SETTLE_SECONDS. While a file is missing, empty or invalid the former
set stays in use.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import SecretStr, ValidationError

from worker.config.settings import PROXY_FIELDS, Settings
from worker.config.sources import FoundValue, problems_by_field, read_secret_file

_MIN_FILE_AGE_NS = 1_000_000_000
SETTLE_SECONDS = 10
"""How long a set of which only a part has changed is not used: the other files may follow."""
_Stamp = tuple[tuple[int, int, int, int], ...]

Secrets = Mapping[str, SecretStr]
"""One consistent set of secrets by their fields, without those that are not configured."""
SECRET_FIELDS = ("auth_token", "access_key", "secret_key", "security_token", "iam_password")
URL_FIELDS = ("amqp_url", "claims_url", *PROXY_FIELDS)
T = TypeVar("T")


class RotatingSecrets(Generic[T]):
    """The current values of `fields`, read again when their files change.

    `found` says which of them came from files. `clock` returns the time of day in nanoseconds, as files have it.
    `problem` is one line that says why the former secrets are still in use, None while the latest are.
    """

    def __init__(
        self,
        settings: Settings,
        found: Mapping[str, FoundValue],
        clock: Callable[[], int] = time.time_ns,
        fields: Sequence[str] = SECRET_FIELDS,
    ) -> None:
        self.problem: str | None = None
        values = {name: getattr(settings, name) for name in fields}
        self._values: Mapping[str, T] = {name: value for name, value in values.items() if value is not None}
        self._files = {name: found[name] for name in fields if name in found and found[name].path}
        self._clock = clock
        self._last_stamp: _Stamp | None = ()  # of nothing: what the settings have was read file by file
        self._partly_new: tuple[Mapping[str, T], int] | None = None
        """A set of which only a part has changed, and when it was seen first."""

    def __repr__(self) -> str:
        return f"RotatingSecrets(files={sorted(self._files)}, problem={self.problem!r})"

    def current(self) -> Mapping[str, T]:
        """Return the current values. Costs one `stat` per file, and reads only files that may have changed."""
        if self._files:
            stamp = self._stamp()
            if stamp is None or stamp != self._last_stamp:
                self._last_stamp = self._read(stamp)
        return self._values

    def _stamp(self) -> _Stamp | None:
        try:
            return tuple(file_stamp(found.path or Path()) for found in self._files.values())
        except OSError:
            return None

    def _read(self, stamp: _Stamp | None) -> _Stamp | None:
        """Read the files; return the stamp for which they need not be read again, None if they must be."""
        try:
            fresh = self._fresh()
        except ValueError as error:
            self.problem = str(error)
            return None
        if stamp is None or stamp != self._stamp():
            return None  # changed meanwhile: it may be half of one set and half of another
        self.problem = None
        if self._last_stamp != () and self._may_be_incomplete(fresh):
            return None
        self._values = fresh
        # A file that was just changed may change again within the resolution of its time stamp.
        is_old_enough = all(self._clock() - changed > _MIN_FILE_AGE_NS for *_, changed in stamp)
        return stamp if is_old_enough else None

    def _may_be_incomplete(self, fresh: Mapping[str, T]) -> bool:
        if len({fresh[name] == self._values[name] for name in self._files}) == 1:
            self._partly_new = None
            return False
        now = self._clock()
        if self._partly_new is None or self._partly_new[0] != fresh:
            self._partly_new = (fresh, now)
        return 0 <= now - self._partly_new[1] < SETTLE_SECONDS * 1_000_000_000

    def _fresh(self) -> Mapping[str, T]:
        texts = {name: _text(found) for name, found in self._files.items()}
        try:
            fresh = Settings.model_validate(texts)
        except ValidationError as error:
            name, problem = next(iter(problems_by_field(error).items()))
            raise ValueError(f"{self._files[name].variable}: {problem}") from None
        return {**self._values, **{name: getattr(fresh, name) for name in texts}}


def file_stamp(path: Path) -> tuple[int, int, int, int]:
    """A value that differs after any change of the file: rewritten, replaced, or behind another link."""
    fact = os.stat(path)
    return (fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns)


def _text(found: FoundValue) -> str:
    try:
        text = read_secret_file(found.path) if found.path else ""
    except ValueError as error:
        raise ValueError(f"{found.variable}: {error}") from None
    if not text.strip():
        raise ValueError(f"{found.variable}: has a secret file that is missing or empty: {found.path}")
    return text
