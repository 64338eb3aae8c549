"""Keys in the profile file of the official SDK: an INI file, section `basic` or `global`.

Source: huaweicloudsdkcore 3.1.219, auth/provider.py. Unlike there, a percent sign is just that.
"""

import configparser
import os
from pathlib import Path
from typing import Final

from worker.dcs.auth.signing import Keys

_SECTIONS: Final = ("basic", "global")
_Stamp = tuple[int, int, int, int]


class Profile:
    """The keys in `path`, as they are now; a file that becomes unusable leaves the former ones in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: Keys | None = None
        self._seen: _Stamp | None = None
        self.fault: str | None = None
        """Why the file as it is now has no keys; one line without its content."""

    def __repr__(self) -> str:
        return f"<Profile {self._path}: {self.fault or 'read'}>"

    def keys(self) -> Keys | None:
        """The present keys; None if the file never had any. Reads the file only when it changed."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._keys, self._seen, self.fault = self._read(), stamp, None
        except (OSError, ValueError, configparser.Error) as error:
            # Its text may quote the line that it could not read.
            self.fault = f"{self._path}: {'no keys' if isinstance(error, ValueError) else type(error).__name__}"
        return self._keys

    def _stamp(self) -> _Stamp:
        fact = os.stat(self._path)
        return (fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns)

    def _read(self) -> Keys:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(self._path.read_text("utf-8-sig"))
        for name in _SECTIONS:
            if parser.has_section(name):
                section = parser[name]
                if section.get("ak") and section.get("sk"):
                    return Keys(section["ak"], section["sk"], section.get("security_token") or None)
        raise ValueError("no section with ak and sk")
