"""What must hold between settings. A check is skipped when one of its settings is wrong by itself."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from worker.config import regions
from worker.config.credentials import chosen_ways, credential_problems
from worker.config.parse import plain
from worker.config.settings import Settings, variable
from worker.config.sources import Found

Check = Callable[[Settings], str | None]


def cross_problems(
    settings: Settings, found: Mapping[str, Found], wrong: Collection[str], *, credentials: bool
) -> list[str]:
    """Return one line per broken relation; `wrong` are the fields that have no usable value."""
    possible = [check for needs, check in _CHECKS if not set(needs) & set(wrong)]
    problems = [problem for check in possible if (problem := check(settings))]
    if not credentials:
        return problems
    problems += credential_problems(found)
    return problems + _iam_endpoint_problems(settings, found, wrong)


def completed(settings: Settings, found: Mapping[str, Found]) -> Settings:
    """Fill in the addresses that follow from the default region, and close the map of endpoints."""
    region = settings.dcs_region
    endpoints = settings.dcs_endpoints or {region: regions.dcs_endpoint(region)}
    filled: dict[str, object] = {"dcs_endpoints": MappingProxyType(dict(endpoints))}
    if settings.iam_endpoint is None and "iam" in chosen_ways(found):
        filled["iam_endpoint"] = regions.iam_endpoint(region)
    return settings.model_copy(update=filled)


def _settle_outlasts_call(settings: Settings) -> str | None:
    if settings.settle > settings.dcs_timeout:
        return None
    limit = f"WORKER_DCS_TIMEOUT ({plain(settings.dcs_timeout)})"
    return f"WORKER_SETTLE: must be greater than {limit}, not {plain(settings.settle)}"


def _schedule_outlasts_settle(settings: Settings) -> str | None:
    longest = max(settings.retry_delays)
    if longest >= settings.settle:
        return None
    limit = f"WORKER_SETTLE ({plain(settings.settle)})"
    return f"WORKER_RETRY_DELAYS: the longest delay must be at least {limit}, not {plain(longest)}"


def _exchanges_differ(settings: Settings) -> str | None:
    if settings.request_exchange != settings.event_exchange:
        return None
    return "WORKER_EVENT_EXCHANGE: must differ from WORKER_REQUEST_EXCHANGE, which is of another kind"


def _certificate_has_key(settings: Settings) -> str | None:
    if (settings.amqp_cert_file is None) == (settings.amqp_key_file is None):
        return None
    missing, present = ("CERT", "KEY") if settings.amqp_cert_file is None else ("KEY", "CERT")
    return f"WORKER_AMQP_{missing}_FILE: is missing, WORKER_AMQP_{present}_FILE needs it"


def _files_need_encryption(settings: Settings) -> str | None:
    files = [name for name in ("amqp_ca_file", "amqp_cert_file", "amqp_key_file") if getattr(settings, name)]
    if not files or settings.amqp_url[0].scheme == "amqps":
        return None
    return f"{variable(files[0])}: is of use only when WORKER_AMQP_URL begins with amqps://"


def _region_has_endpoint(settings: Settings) -> str | None:
    region, configured = settings.dcs_region, settings.dcs_endpoints
    if configured and region not in configured:
        return f"WORKER_DCS_REGION: must be one of the regions in WORKER_DCS_ENDPOINTS, not {region!r}"
    if not configured and region not in regions.DCS_REGIONS:
        return f"WORKER_DCS_REGION: the address of {region!r} is not known, set WORKER_DCS_ENDPOINTS"
    return None


_CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("settle", "dcs_timeout"), _settle_outlasts_call),
    (("retry_delays", "settle"), _schedule_outlasts_settle),
    (("request_exchange", "event_exchange"), _exchanges_differ),
    (("amqp_cert_file", "amqp_key_file"), _certificate_has_key),
    (("amqp_url", "amqp_ca_file", "amqp_cert_file", "amqp_key_file"), _files_need_encryption),
    (("dcs_region", "dcs_endpoints"), _region_has_endpoint),
)


def _iam_endpoint_problems(settings: Settings, found: Mapping[str, Found], wrong: Collection[str]) -> list[str]:
    by_region = chosen_ways(found) == ["iam"] and "iam_endpoint" not in found and "dcs_region" not in wrong
    if not by_region or regions.iam_endpoint(settings.dcs_region) is not None:
        return []
    return [f"WORKER_IAM_ENDPOINT: is missing, the address of IAM for {settings.dcs_region!r} is not known"]
