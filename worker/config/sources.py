"""Sources of settings: the environment, then secret files, then `.env`. An empty value means not set."""

import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as entry
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError

from worker.config.settings import PROXY_FIELDS, SDK_VARIABLES, Settings, variable

MAX_SECRET_FILE_BYTES = 65_536
SECRETS_DIR = variable("secrets_dir")


@dataclass(frozen=True, slots=True)
class FoundValue:
    """The text of one variable, its name as found, its secret file if any, and why it cannot be read if so."""

    variable: str
    text: str = entry(repr=False)
    path: Path | None = None
    problem: str | None = None


class SettingsSources:
    """All sources of the settings, in order of precedence.

    `found` has the values that are set, `invalid` their problems, both by field. `folder` holds the secret files.
    """

    def __init__(self, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> None:
        self.environ = environ
        self.dotenv = dotenv
        named = _of_text(SECRETS_DIR, environ) or _of_text(SECRETS_DIR, dotenv)
        self.folder = Path(named.text.strip() if named else Settings.model_fields["secrets_dir"].default)
        self.found = dict(self._gather())
        self.invalid = {field: found.problem for field, found in self.found.items() if found.problem is not None}

    def find(self, name: str) -> FoundValue | None:
        """Return a variable from the first source that has it; None when no source has it."""
        return _of_text(name, self.environ) or _of_file(name, self.folder) or _of_text(name, self.dotenv)

    def origin(self, field: str) -> str:
        """Where a value of `found` comes from, with its variable if that is the SDK's."""
        found = self.found[field]
        if field == "credentials_file" and found.variable != variable(field):
            return "found in the home folder"
        if found.path is not None:
            return f"secret file {found.path}"
        source = "environment" if self.environ.get(found.variable, "").strip() else ".env file"
        return source if found.variable == variable(field) else f"{source}, {found.variable}"

    def read(self) -> Settings:
        """Return the settings; an invalid value is left out, so that its default is used instead."""
        try:
            return Settings(**self._valid_texts())
        except ValidationError as error:
            self.invalid |= problems_by_field(error)
            return Settings(**self._valid_texts())

    def _valid_texts(self) -> dict[str, Any]:
        return {field: found.text for field, found in self.found.items() if field not in self.invalid}

    def _gather(self) -> Iterator[tuple[str, FoundValue]]:
        names = {field: variable(field) for field in Settings.model_fields}
        if not any(self.find(names[field]) for field in SDK_VARIABLES):
            # All access keys have our names or all have the SDK's: a mixed set would belong to no account.
            names |= SDK_VARIABLES
        names |= {field: field for field in PROXY_FIELDS if self.environ.get(field, "").strip()}
        found = {field: self.find(name) for field, name in names.items()}
        profile = os.path.join(self.environ.get("HOME") or os.sep, ".huaweicloud", "credentials")
        if found["credentials"] and not found["credentials_file"] and os.path.isfile(profile):
            found["credentials_file"] = FoundValue("WORKER_CREDENTIALS", profile)
        return ((field, value) for field, value in found.items() if value is not None)


def problems_by_field(error: ValidationError) -> dict[str, str]:
    """Return the problem of each invalid field, as the rest of a sentence."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return {str(detail["loc"][0]): detail["msg"].removeprefix("Value error, ") for detail in reversed(details)}


def _of_text(name: str, texts: Mapping[str, str]) -> FoundValue | None:
    text = texts.get(name, "")
    if not text.strip():
        return None
    try:
        text.encode()  # bytes that are not UTF-8 arrive in the environment as lone surrogates
    except UnicodeEncodeError:
        return FoundValue(name, "", problem="is not UTF-8 text")
    return FoundValue(name, text)


def _of_file(name: str, folder: Path) -> FoundValue | None:
    if name == SECRETS_DIR:
        return None  # the folder cannot contain its own location
    path = folder / name.lower()
    try:
        text = read_secret_file(path)
    except ValueError as error:
        return FoundValue(name, "", path, problem=str(error))
    return FoundValue(name, text, path) if text.strip() else None


def read_dotenv_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Read a `.env` file; return its values and its problems. `$` is an ordinary character."""
    if not os.path.isfile(path):
        return {}, []
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        return {}, [f".env: cannot be read ({error.strerror})"]
    except UnicodeDecodeError:
        return {}, [".env: is not UTF-8 text"]
    bindings = list(parse_stream(io.StringIO(text)))
    problems = [f".env: line {binding.original.line} cannot be read" for binding in bindings if binding.error]
    return {binding.key: binding.value or "" for binding in bindings if binding.key is not None}, problems


def read_secret_file(path: Path) -> str:
    """Return the text of a secret file without trailing line ends; empty when the file does not exist.

    Raises ValueError with the rest of a sentence when the file cannot be read, is not a regular file (reading a pipe
    might never end), is too large, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"has a secret file that is no regular file: {path}")
        with open(path, "rb") as stream:
            content = stream.read(MAX_SECRET_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ValueError(f"has a secret file that cannot be read ({error.strerror}): {path}") from None
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise ValueError(f"has a secret file of more than {MAX_SECRET_FILE_BYTES} bytes: {path}")
    try:
        return content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"has a secret file that is not UTF-8 text: {path}") from None
