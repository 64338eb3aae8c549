"""Reads the configuration, once, and refuses politely."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from worker.config.checks import completed, cross_problems
from worker.config.errors import ConfigurationError
from worker.config.proxies import Proxies, read_proxies
from worker.config.rotation import Rotating
from worker.config.settings import Settings
from worker.config.sources import Found, gather, open_sources, read_dotenv
from worker.config.unknown import ignored_warnings, unknown_warnings
from worker.config.validate import validate


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, what an operator should be told about them, and the secrets as they change."""

    settings: Settings
    warnings: tuple[str, ...]
    secrets: Rotating
    proxies: Proxies


def load(environ: Mapping[str, str], *, folder: Path = Path(), credentials: bool = True) -> Loaded:
    """Read all settings from the environment, the secret files and `folder/.env`, in this order of precedence.

    `credentials` says whether those for DCS are needed: commands that only speak with the broker need none.
    Raises ConfigurationError with every problem there is.
    """
    dotenv, problems = read_dotenv(folder / ".env")
    sources = open_sources(environ, dotenv)
    found = gather(sources)
    _add_profile_file(found, environ)
    settings, wrong = _validate(found)
    problems += [f"{found[field].variable}: {wrong[field]}" for field in found if field in wrong]
    problems += cross_problems(settings, found, wrong, credentials=credentials)
    proxies, unusable = read_proxies(environ)
    problems += unusable if credentials else []  # only calls of the services go through them
    warnings = (*unknown_warnings(sources), *ignored_warnings(sources, found))
    if problems:
        raise ConfigurationError(tuple(problems), warnings)
    settings = completed(settings, found)
    return Loaded(settings, warnings, Rotating(settings, found), proxies)


def load_from_process(*, credentials: bool = True) -> Loaded:
    """Read the settings of this process: the only place in the product that looks at its environment."""
    return load(os.environ, credentials=credentials)


def _validate(found: Mapping[str, Found]) -> tuple[Settings, dict[str, str]]:
    faulty = {field: it.fault for field, it in found.items() if it.fault is not None}
    settings, wrong = validate({field: it.text for field, it in found.items() if field not in faulty})
    return settings, wrong | faulty


def _add_profile_file(found: dict[str, Found], environ: Mapping[str, str]) -> None:
    """Point the platform's way to the profile file in the user's home, if there is one."""
    profile = os.path.join(environ.get("HOME") or os.sep, ".huaweicloud", "credentials")
    if "credentials" in found and "credentials_file" not in found and os.path.isfile(profile):
        found["credentials_file"] = Found("WORKER_CREDENTIALS", profile)


def wants_colours(stream: TextIO) -> bool:
    """Whether output to `stream` is coloured: on a terminal, unless NO_COLOR says otherwise (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def secret_texts(settings: Settings) -> tuple[str, ...]:
    """Every secret in the settings, for whoever has to keep them out of what is printed."""
    values = (getattr(settings, field) for field in Settings.model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
