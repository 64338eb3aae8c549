"""Where values come from: environment, then secret files, then `.env`. Empty means not set, everywhere."""

import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as entry
from pathlib import Path

from dotenv.parser import parse_stream

from worker.config.settings import SDK_VARIABLES, Settings, variable

LARGEST_SECRET = 65_536
SECRETS_DIR = variable("secrets_dir")


@dataclass(frozen=True, slots=True)
class Found:
    """The text of one variable, the name it was found under, and its secret file if it has one."""

    variable: str
    text: str = entry(repr=False)
    path: Path | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """The three places to look in."""

    environ: Mapping[str, str] = entry(repr=False)
    dotenv: Mapping[str, str] = entry(repr=False)
    folder: Path

    def find(self, name: str) -> Found | None:
        """Return a variable as the first place that has it says; None when none has it."""
        return self._of_text(name, self.environ) or self._of_file(name) or self._of_text(name, self.dotenv)

    def _of_text(self, name: str, texts: Mapping[str, str]) -> Found | None:
        text = texts.get(name, "")
        if not text.strip():
            return None
        try:
            text.encode()  # bytes that are not UTF-8 arrive in the environment as lone surrogates
        except UnicodeEncodeError:
            return Found(name, "", fault="is not UTF-8 text")
        return Found(name, text)

    def _of_file(self, name: str) -> Found | None:
        if name == SECRETS_DIR:
            return None  # the folder cannot say where it is
        path = self.folder / name.lower()
        try:
            text = read_secret(path)
        except ValueError as error:
            return Found(name, "", path, fault=str(error))
        return Found(name, text, path) if text.strip() else None


def open_sources(environ: Mapping[str, str], dotenv: Mapping[str, str]) -> Sources:
    """Find the folder of secret files and return all three places."""
    named = Sources(environ, dotenv, Path()).find(SECRETS_DIR)
    return Sources(environ, dotenv, Path(named.text.strip()) if named else Settings().secrets_dir)


def gather(sources: Sources) -> dict[str, Found]:
    """Return what is set, by field."""
    named = {field: variable(field) for field in Settings.model_fields}
    if not any(sources.find(named[field]) for field in SDK_VARIABLES):
        # All keys under our names or all under the SDK's: half a set of each would be nobody's.
        named |= SDK_VARIABLES
    found = {field: sources.find(name) for field, name in named.items()}
    return {field: value for field, value in found.items() if value is not None}


def read_dotenv(path: Path) -> tuple[dict[str, str], list[str]]:
    """Read a `.env` file into its values and the problems with it. `$` is an ordinary character."""
    if not os.path.isfile(path):
        return {}, []
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        return {}, [f".env: cannot be read ({error.strerror})"]
    except UnicodeDecodeError:
        return {}, [".env: is not UTF-8 text"]
    bindings = list(parse_stream(io.StringIO(text)))
    problems = [f".env: line {it.original.line} cannot be read" for it in bindings if it.error]
    return {it.key: it.value or "" for it in bindings if it.key is not None}, problems


def read_secret(path: Path) -> str:
    """Return the text of a secret file without line ends behind it; empty when there is no such file.

    Raises ValueError with the rest of a sentence when it cannot be read, is no regular file (reading a
    pipe might never end), is too large, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"has a secret file that is no regular file: {path}")
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_SECRET + 1)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ValueError(f"has a secret file that cannot be read ({error.strerror}): {path}") from None
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"has a secret file of more than {LARGEST_SECRET} bytes: {path}")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"has a secret file that is not UTF-8 text: {path}") from None
