"""The ways to authenticate: exactly one, complete, and the addresses that follow from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.config import DCS_REGIONS, AuthMethodName, Configuration, ConfigurationError, Settings, load
from worker.config.regions import dcs_endpoint, iam_endpoint, sts_endpoint

AUTH = {"WORKER_AUTH_TOKEN": "t"}
KEYS = {"WORKER_ACCESS_KEY": "a", "WORKER_SECRET_KEY": "s"}
SDK_KEYS = {"HUAWEICLOUD_SDK_AK": "b", "HUAWEICLOUD_SDK_SK": "r"}
IAM = {"WORKER_IAM_USER": "u", "WORKER_IAM_PASSWORD": " p ", "WORKER_IAM_DOMAIN": "d"}
PLATFORM = {"WORKER_CREDENTIALS": "platform"}
NOWHERE = Path("/nonexistent")


def problems(values: dict[str, str]) -> list[str]:
    """Return the problems that loading ends with."""
    with pytest.raises(ConfigurationError) as caught:
        load(values, folder=NOWHERE)
    return list(caught.value.problems)


def loaded(values: dict[str, str]) -> Configuration:
    """Load without any file."""
    return load(values, folder=NOWHERE)


@pytest.mark.parametrize(
    ("values", "way"),
    [
        (AUTH, "token"),
        (AUTH | {"WORKER_IAM_ENDPOINT": "https://iam.example.com"}, "token"),
        (KEYS, "keys"),
        (KEYS | {"WORKER_SECURITY_TOKEN": "x"}, "keys"),
        (SDK_KEYS, "keys"),
        (IAM, "iam"),
        (PLATFORM, "platform"),
    ],
)
def test_configured_variables_select_auth_method(values: dict[str, str], way: AuthMethodName) -> None:
    """Each way to authenticate is recognised by the variables that are set."""
    assert loaded(values).settings.auth_method == way


def test_missing_credentials_stop_start() -> None:
    """Without credentials the start fails with one sentence that names the variables of all ways."""
    (problem,) = problems({})
    assert problem == (
        "credentials: none for DCS are configured; set exactly one of WORKER_AUTH_TOKEN; WORKER_ACCESS_KEY and "
        "WORKER_SECRET_KEY (or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK), with WORKER_SECURITY_TOKEN (or "
        "HUAWEICLOUD_SDK_SECURITY_TOKEN) if they are temporary; WORKER_IAM_USER, WORKER_IAM_PASSWORD and "
        "WORKER_IAM_DOMAIN, with WORKER_IAM_ENDPOINT if it is not Huawei Cloud's own; WORKER_CREDENTIALS=platform"
    )


def test_command_without_credentials_starts() -> None:
    """A command that needs no credentials starts without them; its auth method is an error."""
    settings = load({}, folder=NOWHERE, credentials=False).settings
    with pytest.raises(ConfigurationError, match="no credentials for DCS are configured"):
        _ = settings.auth_method


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (AUTH | KEYS, "WORKER_AUTH_TOKEN, WORKER_ACCESS_KEY and WORKER_SECRET_KEY"),
        (AUTH | SDK_KEYS, "WORKER_AUTH_TOKEN, HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK"),
        (AUTH | {"WORKER_IAM_USER": "u"}, "WORKER_AUTH_TOKEN and WORKER_IAM_USER"),
        (AUTH | PLATFORM, "WORKER_AUTH_TOKEN and WORKER_CREDENTIALS"),
        ({"WORKER_AUTH_TOKEN": "a"} | IAM | PLATFORM,
         "WORKER_AUTH_TOKEN, WORKER_IAM_USER, WORKER_IAM_PASSWORD, WORKER_IAM_DOMAIN and WORKER_CREDENTIALS"),
    ],
)  # fmt: skip
def test_two_auth_methods_are_rejected(values: dict[str, str], names: str) -> None:
    """Two ways to authenticate are rejected with the names of the variables that are set."""
    assert problems(values) == [f"credentials: exactly one way to authenticate must be configured, but {names} are set"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"WORKER_ACCESS_KEY": "a"}, ["WORKER_SECRET_KEY: is missing, WORKER_ACCESS_KEY needs it"]),
        ({"WORKER_ACCESS_KEY": "a", "HUAWEICLOUD_SDK_SK": "r"},
         ["WORKER_SECRET_KEY: is missing, WORKER_ACCESS_KEY needs it"]),
        ({"HUAWEICLOUD_SDK_SK": "r"}, ["HUAWEICLOUD_SDK_AK: is missing, HUAWEICLOUD_SDK_SK needs it"]),
        ({"WORKER_SECURITY_TOKEN": "x"}, ["WORKER_ACCESS_KEY: is missing, WORKER_SECURITY_TOKEN needs it",
                                          "WORKER_SECRET_KEY: is missing, WORKER_SECURITY_TOKEN needs it"]),
        ({"WORKER_IAM_USER": "u"}, ["WORKER_IAM_PASSWORD: is missing, WORKER_IAM_USER needs it",
                                    "WORKER_IAM_DOMAIN: is missing, WORKER_IAM_USER needs it"]),
        ({"WORKER_IAM_ENDPOINT": "https://h", "WORKER_IAM_USER": "u", "WORKER_IAM_DOMAIN": "d"},
         ["WORKER_IAM_PASSWORD: is missing, WORKER_IAM_USER needs it"]),
        ({"WORKER_IAM_ENDPOINT": "https://h"}, ["WORKER_IAM_USER: is missing, WORKER_IAM_ENDPOINT needs it",
                                                "WORKER_IAM_PASSWORD: is missing, WORKER_IAM_ENDPOINT needs it",
                                                "WORKER_IAM_DOMAIN: is missing, WORKER_IAM_ENDPOINT needs it"]),
    ],
)  # fmt: skip
def test_incomplete_auth_method_is_rejected(values: dict[str, str], expected: list[str]) -> None:
    """An incomplete way to authenticate is rejected with the missing variables."""
    assert problems(values) == expected


def test_invalid_token_is_one_problem() -> None:
    """A token that cannot be used is one problem, and not also reported as missing."""
    assert problems({"WORKER_AUTH_TOKEN": "two words"}) == [
        "WORKER_AUTH_TOKEN: must consist of visible ASCII characters without spaces (the value is not shown)"
    ]
    assert problems(IAM | {"WORKER_IAM_PASSWORD": "a\nb"}) == [
        "WORKER_IAM_PASSWORD: must not have control characters (the value is not shown)"
    ]


def test_our_key_variables_win_over_sdk_variables() -> None:
    """Our variables replace the SDK's as a complete set, with a warning for each ignored variable."""
    read = loaded(KEYS | SDK_KEYS | {"HUAWEICLOUD_SDK_SECURITY_TOKEN": "x"})
    secrets = read.secrets.current()
    assert secrets["access_key"].get_secret_value() == "a"
    assert "security_token" not in secrets
    assert read.warnings == tuple(
        f"HUAWEICLOUD_SDK_{name}: is ignored, WORKER_ACCESS_KEY is set" for name in ("AK", "SK", "SECURITY_TOKEN")
    )
    assert loaded(SDK_KEYS).warnings == ()


def test_password_keeps_spaces() -> None:
    """Spaces at the ends of a password are part of it; those around a token are not."""
    password = loaded(IAM).settings.iam_password
    token = loaded({"WORKER_AUTH_TOKEN": " t \n"}).settings.auth_token
    assert password is not None
    assert token is not None
    assert (password.get_secret_value(), token.get_secret_value()) == (" p ", "t")


def test_profile_file_selects_platform(tmp_path: Path) -> None:
    """The profile file is the configured one, else the one in the home folder; configuring it selects `platform`."""
    home = {"HOME": str(tmp_path)}
    assert loaded(PLATFORM | home).settings.credentials_file is None
    profile = tmp_path / ".huaweicloud" / "credentials"
    profile.parent.mkdir()
    profile.write_text("[basic]\n")
    assert loaded(PLATFORM | home).settings.credentials_file == profile
    assert loaded(AUTH | home).settings.credentials_file is None
    named = loaded({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(profile)}).settings
    assert (named.auth_method, named.credentials_file) == ("platform", profile)


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("cn-north-4", "https://iam.cn-north-4.myhuaweicloud.com"),
        ("cn-south-4", "https://iam.myhuaweicloud.com"),
        ("eu-west-101", "https://iam.eu-west-101.myhuaweicloud.eu"),
        ("eu-west-102", "https://iam.eu-west-102.myhuaweicloud.eu"),
    ],
)
def test_iam_endpoint_follows_region(region: str, endpoint: str) -> None:
    """Without an IAM address the region's own is used, or the global one where the region has none."""
    assert loaded(IAM | {"WORKER_DCS_REGION": region}).settings.iam_endpoint == endpoint
    assert loaded(AUTH | {"WORKER_DCS_REGION": region}).settings.iam_endpoint is None


@pytest.mark.parametrize("region", ["eu-de", "eu-west-0", "ru-moscow-1"])
def test_region_of_a_partner_needs_iam_endpoint(region: str) -> None:
    """For a region that is not Huawei's own the IAM address must be configured: no password goes to a guessed host."""
    other = IAM | {"WORKER_DCS_REGION": region, "WORKER_DCS_ENDPOINTS": f'{{"{region}": "https://dcs.example.com"}}'}
    assert problems(other) == [f"WORKER_IAM_ENDPOINT: is missing, the address of IAM for {region!r} is not known"]
    own = loaded(other | {"WORKER_IAM_ENDPOINT": "https://iam.example.com"}).settings
    assert own.iam_endpoint == "https://iam.example.com"


def pod_identity(folder: Path) -> dict[str, str]:
    """The variables that CCE sets in a pod."""
    (folder / "token").write_text("t")
    return {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.1.1:8080/v1/credentials?a=b",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
    }


def oidc(folder: Path) -> dict[str, str]:
    """The variables of OIDC of the new IAM."""
    (folder / "token").write_text("t")
    urns = {f"HUAWEICLOUD_OIDC_{name}_URN": f"iam::{name}" for name in ("PROVIDER", "AGENCY")}
    return urns | {"HUAWEICLOUD_OIDC_TOKEN_FILE": str(folder / "token")}


def old_oidc(folder: Path) -> dict[str, str]:
    """The variables of OIDC of the old IAM."""
    (folder / "token").write_text("t")
    return {"HUAWEICLOUD_SDK_IDP_ID": "i", "HUAWEICLOUD_SDK_ID_TOKEN_FILE": str(folder / "token")}


def test_platform_identity_is_the_first_complete_one(tmp_path: Path) -> None:
    """Pod identity, OIDC of the new and of the old IAM, in this order; what is set but not used is named."""
    values = PLATFORM | old_oidc(tmp_path)
    assert loaded(values).platform.identity == "OIDC of the old IAM"
    assert loaded(values).settings.iam_endpoint == "https://iam.cn-north-4.myhuaweicloud.com"
    values |= oidc(tmp_path)
    assert loaded(values).platform.identity == "OIDC"
    assert loaded(values).platform.sts_endpoint == "https://sts.cn-north-4.myhuaweicloud.com"
    read = loaded(values | pod_identity(tmp_path))
    assert read.platform.identity == "pod identity"
    assert read.warnings == tuple(
        f"{name}: is not used, pod identity goes first; unset the variables of one of the two"
        for name in ("HUAWEICLOUD_OIDC_PROVIDER_URN", "HUAWEICLOUD_SDK_IDP_ID")
    )


def test_identity_without_platform_is_named(tmp_path: Path) -> None:
    """Variables of the platform beside other credentials, or beside none, come with what to set."""
    line = "HC_CONTAINER_CREDENTIALS_FULL_URI: is not used; set WORKER_CREDENTIALS=platform alone to use pod identity"
    assert loaded(AUTH | pod_identity(tmp_path)).warnings == (line,)
    with pytest.raises(ConfigurationError) as caught:
        load(pod_identity(tmp_path), folder=NOWHERE)
    assert caught.value.warnings == (line,)


def test_wrong_platform_variables_stop_start(tmp_path: Path) -> None:
    """Incomplete or invalid ones, and the address of STS or IAM for a region that is not known to have it."""
    half = PLATFORM | {"HUAWEICLOUD_OIDC_AGENCY_URN": "a", "HUAWEICLOUD_SDK_IDP_ID": "i"}
    assert problems(half) == [
        "HUAWEICLOUD_OIDC_PROVIDER_URN: is missing, HUAWEICLOUD_OIDC_AGENCY_URN needs it",
        "HUAWEICLOUD_OIDC_TOKEN_FILE: is missing, HUAWEICLOUD_OIDC_AGENCY_URN needs it",
        "HUAWEICLOUD_SDK_ID_TOKEN_FILE: is missing, HUAWEICLOUD_SDK_IDP_ID needs it",
    ]
    gone = {"HUAWEICLOUD_SDK_IDP_ID": "i", "HUAWEICLOUD_SDK_ID_TOKEN_FILE": "/gone"}
    assert problems(PLATFORM | gone) == [
        "HUAWEICLOUD_SDK_ID_TOKEN_FILE: must be a file that exists and can be read, not '/gone'"
    ]
    away = PLATFORM | {"WORKER_DCS_REGION": "eu-de", "WORKER_DCS_ENDPOINTS": '{"eu-de": "https://dcs.example.com"}'}
    assert problems(away | oidc(tmp_path)) == [
        "HUAWEICLOUD_SDK_STS_ENDPOINT: is missing, the address of STS for 'eu-de' is not known"
    ]
    assert problems(away | old_oidc(tmp_path)) == [
        "WORKER_IAM_ENDPOINT: is missing, the address of IAM for 'eu-de' is not known"
    ]


@pytest.mark.parametrize(
    ("host", "is_accepted"),
    [
        ("169.254.170.23", True),
        ("[fe80::1]", True),
        ("127.0.0.1:8080", True),
        ("[::1]", True),
        ("localhost:80", True),
        ("10.0.0.7:8080", False),
        ("[fd00:ec2::23]", False),
        ("[::ffff:10.0.0.7]", False),
        ("169.255.1.1", False),
        ("localhost.example.com", False),
        ("169.254.1.1.example.com", False),
        ("agent", False),
    ],
)
def test_token_of_pod_identity_is_not_sent_over_the_network_unencrypted(
    tmp_path: Path, host: str, is_accepted: bool
) -> None:
    """http is for loopback and link-local addresses only; https for any."""
    values = PLATFORM | pod_identity(tmp_path)
    encrypted = values | {"HC_CONTAINER_CREDENTIALS_FULL_URI": f"https://{host}/v1"}
    assert loaded(encrypted).platform.agent_url == f"https://{host}/v1"
    plain = values | {"HC_CONTAINER_CREDENTIALS_FULL_URI": f"HTTP://{host}/v1"}
    if is_accepted:
        assert loaded(plain).platform.agent_url == f"HTTP://{host}/v1"
    else:
        assert problems(plain) == [
            "HC_CONTAINER_CREDENTIALS_FULL_URI: must begin with https:// "
            "(http:// is for loopback and link-local addresses)"
        ]


QUOTED = "is in quotes, which would count as part of the value; write it without them"
MARKED = "begins with a byte order mark, which would count as part of the value; write it without one"


@pytest.mark.parametrize(("form", "problem"), [('"{}"', QUOTED), ("'{}'", QUOTED), ("\ufeff{}", MARKED)])
def test_quotes_and_byte_order_marks_of_platform_variables_are_named(tmp_path: Path, form: str, problem: str) -> None:
    """As for other settings, in every variable; the value is not shown."""
    optional = {f"HUAWEICLOUD_OIDC_{name}": "900" for name in ("SESSION_NAME", "DURATION_SECONDS", "POLICY")}
    sts = {"HUAWEICLOUD_SDK_STS_ENDPOINT": "https://sts"}
    for way in (pod_identity(tmp_path), oidc(tmp_path) | optional | sts, old_oidc(tmp_path)):
        for name, value in way.items():
            assert problems(PLATFORM | way | {name: form.format(value)}) == [f"{name}: {problem}"]
    token = oidc(tmp_path) | {"HUAWEICLOUD_OIDC_ID_TOKEN": form.format("SHOWN")}
    assert problems(PLATFORM | token) == [f"HUAWEICLOUD_OIDC_ID_TOKEN: {problem}"]


def test_byte_order_mark_of_a_setting_is_named(tmp_path: Path) -> None:
    """In a variable, where it was pasted; one of a file is left out."""
    assert problems(AUTH | {"WORKER_QUEUE": "\ufeffq"}) == [f"WORKER_QUEUE: {MARKED}"]
    (tmp_path / "worker_queue").write_text("\ufeffq", "utf-8")
    assert loaded(AUTH | {"WORKER_SECRETS_DIR": str(tmp_path)}).settings.queue == "q"


_SDK_REGIONS = """
import json
from huaweicloudsdkcore.auth.endpoint import get_iam_endpoint_by_id, get_sts_endpoint_by_id
from huaweicloudsdkdcs.v2.region.dcs_region import DcsRegion
names = [name for name in vars(DcsRegion) if name.isupper() and name[0] != "_"]
regions = [DcsRegion.value_of(name.lower().replace("_", "-")) for name in names]
services = [(it.endpoints[0], get_iam_endpoint_by_id(it.id), get_sts_endpoint_by_id(it.id)) for it in regions]
print(json.dumps({it.id: found for it, found in zip(regions, services)}))
"""
PARTNERS = {"eu-west-0", "ru-moscow-1"}
EUROPE = "eu-west-101"


def test_regions_equal_those_of_sdk(tmp_path: Path) -> None:
    """Known regions and their addresses are those of the SDK, but for partners and the European site's domain."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    answer = subprocess.run(
        [sys.executable, "-c", _SDK_REGIONS], env=environment, capture_output=True, check=True, timeout=60
    )
    theirs = json.loads(answer.stdout)
    glob = "https://iam.myhuaweicloud.com"
    assert theirs.keys() - DCS_REGIONS == PARTNERS
    ours = {region: [dcs_endpoint(region), iam_endpoint(region), sts_endpoint(region)] for region in DCS_REGIONS}
    assert ours.pop(EUROPE) == [f"https://{service}.{EUROPE}.myhuaweicloud.eu" for service in ("dcs", "iam")] + [None]
    assert ours == {region: [dcs, iam or glob, sts] for region, (dcs, iam, sts) in theirs.items() if region in ours}


def test_settings_know_auth_method() -> None:
    """Settings that were not loaded know their auth method too."""
    assert Settings(auth_token="t").auth_method == "token"
