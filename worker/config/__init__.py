"""The configuration: parsed once, frozen, and the only reader of the process's environment."""

from worker.config.describe import describe, settings_table
from worker.config.errors import ConfigurationError
from worker.config.load import Loaded, load, load_from_process, secret_texts, wants_colours
from worker.config.regions import DCS_REGIONS
from worker.config.rotation import Rotating, Secrets
from worker.config.settings import CredentialWay, Settings
from worker.config.urls import SecretUrl

__all__ = [
    "DCS_REGIONS",
    "ConfigurationError",
    "CredentialWay",
    "Loaded",
    "Rotating",
    "SecretUrl",
    "Secrets",
    "Settings",
    "describe",
    "load",
    "load_from_process",
    "secret_texts",
    "settings_table",
    "wants_colours",
]
