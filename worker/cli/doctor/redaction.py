"""Law 12: no secret in a finding, even where it quotes what somebody else said."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from worker.config import Settings, secret_texts
from worker.observe.mask import Mask

if TYPE_CHECKING:
    from worker.policy.diagnostics import Check


def redact_checks(checks: Sequence["Check"], settings: Settings | None) -> list["Check"]:
    """The findings with every secret of `settings` masked, and every password within a URL."""
    mask = Mask(_secret_texts(settings) if settings is not None else ())
    return [
        replace(
            check,
            found=str(mask.clean(check.found)),
            subject=str(mask.clean(check.subject)),
            remedy=None if check.remedy is None else str(mask.clean(check.remedy)),
        )
        for check in checks
    ]


def _secret_texts(settings: Settings) -> Iterator[str]:
    yield from secret_texts(settings)
    urls = [*settings.amqp_url, *([settings.claims_url] if settings.claims_url is not None else [])]
    for parts in (urlsplit(url.get_secret_value()) for url in urls):
        # A password that is its user's name, as RabbitMQ's own guest, would take the name out of every remedy.
        if parts.password and parts.password != parts.username:
            yield from {parts.password, unquote(parts.password)}
