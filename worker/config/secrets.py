"""Secrets that change while the worker runs.

A value that came from a secret file follows the file; any other value stays as it was at the start. What
is handed out is always one consistent set: a new access key is never paired with an old secret key because
the files were caught half-way, and a file that is missing, empty or wrong leaves the former set in use.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from pydantic import SecretStr, ValidationError

from worker.config.settings import Settings
from worker.config.sources import FoundValue, problems_by_field, read_secret_file

_MIN_FILE_AGE_NS = 1_000_000_000
_Stamp = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class SecretValues:
    """The secrets that were valid together at one moment; None for those not configured."""

    auth_token: SecretStr | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    security_token: SecretStr | None = None
    iam_password: SecretStr | None = None


class RotatingSecrets:
    """Hands out the current secrets.

    `found` says which of them came from files. `clock` returns the time of day in nanoseconds, to be
    compared with the times of files. `fault` is one line that says why the former secrets are still in
    use, None when the latest are.
    """

    def __init__(
        self, settings: Settings, found: Mapping[str, FoundValue], clock: Callable[[], int] = time.time_ns
    ) -> None:
        names = [entry.name for entry in fields(SecretValues)]
        self.problem: str | None = None
        self._secrets = SecretValues(**{name: getattr(settings, name) for name in names})
        self._files = {name: found[name] for name in names if name in found and found[name].path}
        self._clock = clock
        self._last_stamp: _Stamp | None = None

    def __repr__(self) -> str:
        return f"RotatingSecrets(files={sorted(self._files)}, problem={self.problem!r})"

    def current(self) -> SecretValues:
        """Return the secrets of now. Costs one `stat` per file, and reads only what may have changed."""
        if self._files:
            stamp = self._stamp()
            if stamp is None or stamp != self._last_stamp:
                self._last_stamp = self._read(stamp)
        return self._secrets

    def _stamp(self) -> _Stamp | None:
        """Return what changes when a file does: rewritten, renamed over, or behind a link that moved."""
        try:
            facts = [os.stat(it.path or "") for it in self._files.values()]
        except OSError:
            return None
        return tuple((fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns) for fact in facts)

    def _read(self, stamp: _Stamp | None) -> _Stamp | None:
        """Take over what the files say; return the stamp until which no further reading is needed, if any."""
        try:
            fresh = self._fresh()
        except ValueError as error:
            self.problem = str(error)
            return None
        if stamp is None or stamp != self._stamp():
            return None  # changed while being read: what was read may be half of one set and half of another
        self._secrets, self.problem = fresh, None
        # A file that changed just now may change again within the resolution of its time.
        is_old_enough = all(self._clock() - changed > _MIN_FILE_AGE_NS for *_, changed in stamp)
        return stamp if is_old_enough else None

    def _fresh(self) -> SecretValues:
        texts = {name: _text(it) for name, it in self._files.items()}
        try:
            fresh = Settings.model_validate(texts)
        except ValidationError as error:
            name, problem = next(iter(problems_by_field(error).items()))
            raise ValueError(f"{self._files[name].variable}: {problem}") from None
        return replace(self._secrets, **{name: getattr(fresh, name) for name in texts})


def _text(it: FoundValue) -> str:
    try:
        text = read_secret_file(it.path) if it.path else ""
    except ValueError as error:
        raise ValueError(f"{it.variable}: {error}") from None
    if not text.strip():
        raise ValueError(f"{it.variable}: has a secret file that is missing or empty: {it.path}")
    return text
