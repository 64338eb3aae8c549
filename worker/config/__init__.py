"""Configuration: read and checked once, frozen; no other room reads the process's environment."""

from worker.config.load import Configuration, load, load_from_process, wants_colours
from worker.config.platform import PlatformVariables
from worker.config.regions import DCS_REGIONS
from worker.config.secrets import RotatingSecrets
from worker.config.settings import (
    AuthMethodName,
    ConfigurationError,
    Settings,
    describe,
    settings_table,
)
from worker.config.urls import SecretUrl
from worker.config.values import secret_texts

__all__ = [
    "DCS_REGIONS",
    "AuthMethodName",
    "Configuration",
    "ConfigurationError",
    "PlatformVariables",
    "RotatingSecrets",
    "SecretUrl",
    "Settings",
    "describe",
    "load",
    "load_from_process",
    "secret_texts",
    "settings_table",
    "wants_colours",
]
