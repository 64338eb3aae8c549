"""What the command was told, beside the configuration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """`project` and its `region`: without a project nothing is asked of DCS with credentials.

    `has_credentials`: whether the configuration has usable ones. `management`: base URL of the broker's management
    API, if it is to be asked.
    """

    project: str | None
    region: str
    has_credentials: bool
    management: str | None
