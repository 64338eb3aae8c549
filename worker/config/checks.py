"""What must hold between settings: their relations, and exactly one complete way to authenticate to DCS."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from worker.config import regions
from worker.config.settings import AUTH_METHOD_FIELDS, SDK_VARIABLES, AuthMethodName, Settings, variable
from worker.config.sources import FoundValue
from worker.config.values import number_text

_MANDATORY: Mapping[AuthMethodName, tuple[str, ...]] = {
    "token": ("auth_token",),
    "keys": ("access_key", "secret_key"),
    "iam": ("iam_user", "iam_password", "iam_domain"),
    "platform": (),
}
_NO_CREDENTIALS = (
    "credentials: none for DCS are configured; set exactly one of WORKER_AUTH_TOKEN; WORKER_ACCESS_KEY and "
    "WORKER_SECRET_KEY (or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK), with WORKER_SECURITY_TOKEN (or "
    "HUAWEICLOUD_SDK_SECURITY_TOKEN) if they are temporary; WORKER_IAM_USER, WORKER_IAM_PASSWORD and "
    "WORKER_IAM_DOMAIN, with WORKER_IAM_ENDPOINT if it is not Huawei Cloud's own; WORKER_CREDENTIALS=platform"
)


def relation_problems(settings: Settings, invalid: Collection[str]) -> Iterator[str]:
    """Yield one line per broken relation; one that needs a field in `wrong` is not judged."""

    def are_valid(*fields: str) -> bool:
        return not set(fields) & set(invalid)

    if are_valid("settle", "dcs_timeout") and settings.settle <= settings.dcs_timeout:
        limit = f"WORKER_DCS_TIMEOUT ({number_text(settings.dcs_timeout)})"
        yield f"WORKER_SETTLE: must be greater than {limit}, not {number_text(settings.settle)}"
    longest = max(settings.retry_delays)
    if are_valid("retry_delays", "settle") and longest < settings.settle:
        limit = f"WORKER_SETTLE ({number_text(settings.settle)})"
        yield f"WORKER_RETRY_DELAYS: the longest delay must be at least {limit}, not {number_text(longest)}"
    if are_valid("request_exchange", "event_exchange") and settings.request_exchange == settings.event_exchange:
        yield "WORKER_EVENT_EXCHANGE: must differ from WORKER_REQUEST_EXCHANGE, which is of another kind"
    if are_valid("amqp_cert_file", "amqp_key_file"):
        yield from _certificate_problems(settings)
    if are_valid("amqp_url", "amqp_ca_file", "amqp_cert_file", "amqp_key_file"):
        yield from _encryption_problems(settings)
    if are_valid("dcs_region", "dcs_endpoints"):
        yield from _region_problems(settings)


def credential_problems(found: Mapping[str, FoundValue]) -> list[str]:
    """Return the problems with what is set, by presence alone: a wrong value is set too."""
    methods = chosen_auth_methods(found)
    if not methods:
        return [_NO_CREDENTIALS]
    if len(methods) > 1:
        *names, last = [
            found[field].variable for method in methods for field in AUTH_METHOD_FIELDS[method] if field in found
        ]
        listed = f"{', '.join(names)} and {last}"
        return [f"credentials: exactly one way to authenticate must be configured, but {listed} are set"]
    missing = [_variable_name(field, found) for field in _MANDATORY[methods[0]] if field not in found]
    present = [found[field].variable for field in (*AUTH_METHOD_FIELDS[methods[0]], "iam_endpoint") if field in found]
    return [f"{name}: is missing, {present[0]} needs it" for name in missing]


def iam_endpoint_problems(settings: Settings, found: Mapping[str, FoundValue], invalid: Collection[str]) -> list[str]:
    """Return one line when passwords would need an address of IAM that neither is set nor follows from the region."""
    by_region = chosen_auth_methods(found) == ["iam"] and "iam_endpoint" not in found and "dcs_region" not in invalid
    if not by_region or regions.iam_endpoint(settings.dcs_region) is not None:
        return []
    return [f"WORKER_IAM_ENDPOINT: is missing, the address of IAM for {settings.dcs_region!r} is not known"]


def chosen_auth_methods(found: Mapping[str, FoundValue]) -> list[AuthMethodName]:
    """Return the ways that what is set chooses; an address of IAM chooses one only when nothing else does."""
    methods = [method for method, fields in AUTH_METHOD_FIELDS.items() if any(field in found for field in fields)]
    return methods or (["iam"] if "iam_endpoint" in found else [])


def fill_in_addresses(settings: Settings, found: Mapping[str, FoundValue]) -> Settings:
    """Fill in the addresses that follow from the default region, and close the map of endpoints."""
    region = settings.dcs_region
    endpoints = settings.dcs_endpoints or {region: regions.dcs_endpoint(region)}
    filled: dict[str, object] = {"dcs_endpoints": MappingProxyType(dict(endpoints))}
    if settings.iam_endpoint is None and "iam" in chosen_auth_methods(found):
        filled["iam_endpoint"] = regions.iam_endpoint(region)
    return settings.model_copy(update=filled)


def _certificate_problems(settings: Settings) -> Iterator[str]:
    if (settings.amqp_cert_file is None) != (settings.amqp_key_file is None):
        missing, present = ("CERT", "KEY") if settings.amqp_cert_file is None else ("KEY", "CERT")
        yield f"WORKER_AMQP_{missing}_FILE: is missing, WORKER_AMQP_{present}_FILE needs it"


def _encryption_problems(settings: Settings) -> Iterator[str]:
    files = [name for name in ("amqp_ca_file", "amqp_cert_file", "amqp_key_file") if getattr(settings, name)]
    if files and settings.amqp_url[0].scheme != "amqps":
        yield f"{variable(files[0])}: is of use only when WORKER_AMQP_URL begins with amqps://"


def _region_problems(settings: Settings) -> Iterator[str]:
    region, configured = settings.dcs_region, settings.dcs_endpoints
    if configured and region not in configured:
        yield f"WORKER_DCS_REGION: must be one of the regions in WORKER_DCS_ENDPOINTS, not {region!r}"
    if not configured and region not in regions.DCS_REGIONS:
        yield f"WORKER_DCS_REGION: the address of {region!r} is not known, set WORKER_DCS_ENDPOINTS"


def _variable_name(field: str, found: Mapping[str, FoundValue]) -> str:
    """Name a missing key like the keys that are present."""
    from_sdk = any(it.variable in SDK_VARIABLES.values() for it in found.values())
    return SDK_VARIABLES[field] if from_sdk and field in SDK_VARIABLES else variable(field)
