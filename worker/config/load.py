"""Reads the configuration, once, and refuses politely."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from worker.config.checks import credential_problems, fill_in_addresses, iam_endpoint_problems, relation_problems
from worker.config.errors import ConfigurationError
from worker.config.proxies import Proxies, read_proxies
from worker.config.secrets import RotatingSecrets
from worker.config.settings import Settings
from worker.config.sources import SettingsSources, read_dotenv_file
from worker.config.unknown import ignored_warnings, unknown_warnings


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, what an operator should be told about them, and the secrets as they change."""

    settings: Settings
    warnings: tuple[str, ...]
    secrets: RotatingSecrets
    proxies: Proxies


def load(environ: Mapping[str, str], *, folder: Path = Path(), credentials: bool = True) -> Configuration:
    """Read all settings from the environment, the secret files and `folder/.env`, in this order of precedence.

    `credentials` says whether those for DCS are needed: commands that only speak with the broker need none.
    Raises ConfigurationError with every problem there is.
    """
    dotenv, problems = read_dotenv_file(folder / ".env")
    sources = SettingsSources(environ, dotenv)
    settings, found, invalid = sources.read(), sources.found, sources.invalid
    problems += [f"{found[field].variable}: {invalid[field]}" for field in found if field in invalid]
    problems += relation_problems(settings, invalid)
    proxies, unusable_proxies = read_proxies(environ)
    if credentials:
        problems += [*credential_problems(found), *iam_endpoint_problems(settings, found, invalid), *unusable_proxies]
    warnings = (*unknown_warnings(sources), *ignored_warnings(sources))
    if problems:
        raise ConfigurationError(tuple(problems), warnings)
    settings = fill_in_addresses(settings, found)
    return Configuration(settings, warnings, RotatingSecrets(settings, found), proxies)


def load_from_process(*, credentials: bool = True) -> Configuration:
    """Read the settings of this process: the only place in the product that looks at its environment."""
    return load(os.environ, credentials=credentials)


def wants_colours(stream: TextIO) -> bool:
    """Whether output to `stream` is coloured: on a terminal, unless NO_COLOR says otherwise (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def secret_texts(settings: Settings) -> tuple[str, ...]:
    """Every secret in the settings, which must not be printed."""
    values = (getattr(settings, field) for field in Settings.model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
