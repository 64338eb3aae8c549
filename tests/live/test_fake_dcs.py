"""The official SDK against the fake DCS: if it gets along, the fake DCS speaks as the service does."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faulty_dcs import FaultyDcs
from worker.tools.fake_dcs import PLAIN_TEXT_PASSWORD, Auth
from worker.tools.fake_dcs.platform import IDP_ID, WAYS

PROJECT = "0123456789abcdef0123456789abcdef"
ACCESS_KEY = "SDKACCESSKEY00000001"
SECRET_KEY = "sdk-secret-key"
FIELDS = {
    "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
    "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
    "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
}


class Sdk:
    """The SDK's synchronous client, each call in a new thread."""

    def __init__(self, url: str, secret: Any, project: str | None = PROJECT) -> None:
        # The SDK writes into the home directory when it is first used: the fixture has moved it by now.
        from huaweicloudsdkcore.auth.credentials import BasicCredentials
        from huaweicloudsdkcore.region.region import Region
        from huaweicloudsdkdcs import v2

        credentials = secret  # a secret key, or credentials
        if isinstance(secret, str):
            credentials = BasicCredentials(ACCESS_KEY, secret, project).with_iam_endpoint(url)
        builder = v2.DcsClient.new_builder().with_credentials(credentials)
        self.v2 = v2
        self.client = builder.with_region(Region("cn-north-4", url)).build()

    async def create(self, name: str, description: str | None = None, **fields: Any) -> Any:
        """Create a task; the reply."""
        body = self.v2.CreateOnlineMigrationTaskBody(name=name, description=description, **{**FIELDS, **fields})
        request = self.v2.CreateOnlineMigrationTaskRequest(body=body)
        return await asyncio.to_thread(self.client.create_online_migration_task, request)

    async def list(self, **query: Any) -> Any:
        """One page of the list."""
        return await asyncio.to_thread(self.client.list_migration_task, self.v2.ListMigrationTaskRequest(**query))

    async def show(self, task_id: str) -> Any:
        """The detail of one task."""
        request = self.v2.ShowMigrationTaskRequest(task_id=task_id)
        return await asyncio.to_thread(self.client.show_migration_task, request)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private home directory: the SDK writes there."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
async def fake_dcs() -> AsyncIterator[FaultyDcs]:
    """A fake DCS that demands a signature."""
    auth = {"mode": "aksk", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    async with FaultyDcs(auth=auth) as running:
        yield running


async def test_sdk_creates_lists_and_shows_task(fake_dcs: FaultyDcs) -> None:
    """What the SDK creates with its signature is what it lists and shows, down to the network ids."""
    sdk = Sdk(fake_dcs.url, SECRET_KEY)

    created = await sdk.create("dcs-migration-thrc", "grüße 测 ~*'()")
    listed = await sdk.list(name="dcs-migration-thrc")
    shown = await sdk.show(created.instance_id)

    (row,) = listed.migration_tasks
    (task,) = fake_dcs.tasks
    assert (listed.count, row.task_id, row.task_name) == (1, created.instance_id, "dcs-migration-thrc")
    assert row.description == shown.description == "grüße 测 ~*'()"
    assert row.migration_type == "online_migration"
    assert row.status == shown.status == "RUNNING"
    assert shown.tenant_vpc_id == FIELDS["vpc_id"]
    assert shown.tenant_subnet_id == FIELDS["subnet_id"]
    assert shown.tenant_security_group_id == FIELDS["security_group_id"]
    assert shown.source_instance.password == PLAIN_TEXT_PASSWORD
    assert task.body == {"name": "dcs-migration-thrc", "description": "grüße 测 ~*'()", **FIELDS}


async def test_answers_have_every_documented_member(fake_dcs: FaultyDcs) -> None:
    """List rows and details have exactly the members that the SDK's models know."""
    sdk = Sdk(fake_dcs.url, SECRET_KEY)
    created = await sdk.create("whole")

    listed = await sdk.list()
    shown = await sdk.show(created.instance_id)

    row, detail = _json(listed)["migration_tasks"][0], _json(shown)
    assert row.keys() == sdk.v2.MigrationTaskList.attribute_map.keys()
    assert detail.keys() == sdk.v2.ShowMigrationTaskResponse.attribute_map.keys()
    assert (len(row), len(detail)) == (25, 22)


async def test_list_pages_newest_first(fake_dcs: FaultyDcs) -> None:
    """Of 25 tasks a page without a limit has ten, and pages follow each other without gap or repetition."""
    sdk = Sdk(fake_dcs.url, SECRET_KEY)
    for number in range(25):
        await sdk.create(f"paged-{number}")

    pages = [await sdk.list(offset=offset) for offset in (0, 10, 20, 30)]

    assert [page.count for page in pages] == [25] * 4
    assert [len(page.migration_tasks) for page in pages] == [10, 10, 5, 0]
    names = [row.task_name for page in pages for row in page.migration_tasks]
    assert names == [f"paged-{number}" for number in reversed(range(25))]
    assert len((await sdk.list(limit=1000)).migration_tasks) == 25


async def test_name_filter_finds_parts(fake_dcs: FaultyDcs) -> None:
    """The filter is fuzzy, any characters in it survive the signed query, and it can be made exact."""
    sdk = Sdk(fake_dcs.url, SECRET_KEY)
    for name in ("move-a", "move-a2", "a b+c&d=é~", "other"):
        await sdk.create(name)

    async def found(name: str) -> set[str]:
        return {row.task_name for row in (await sdk.list(name=name)).migration_tasks}

    assert await found("move-a") == {"move-a", "move-a2"}
    assert await found(" b+c&d=é") == {"a b+c&d=é~"}
    assert await found("absent") == set()
    await fake_dcs.apply(fuzzy_name=False)
    assert await found("move-a") == {"move-a"}


async def test_wrong_secret_key_is_refused(fake_dcs: FaultyDcs) -> None:
    """A signature by another key creates nothing, and the error names the reason."""
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as refused:
        await Sdk(fake_dcs.url, "another-secret-key").create("forged")

    assert (refused.value.status_code, refused.value.error_code) == (401, "APIGW.0301")
    assert "verify aksk signature fail" in refused.value.error_msg
    assert fake_dcs.tasks == []


async def test_sdk_asks_iam_for_project(fake_dcs: FaultyDcs) -> None:
    """Without a project id the SDK finds it by the region's name, with a signed call."""
    sdk = await asyncio.to_thread(Sdk, fake_dcs.url, SECRET_KEY, None)

    await sdk.create("by-region")

    assert [call.operation for call in fake_dcs.calls] == ["projects", "create"]
    assert [task.project_id for task in fake_dcs.tasks] == [PROJECT]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "DCS.4013"),
        (401, "APIGW.0307"),
        (403, "DCS.2003"),
        (404, "DCS.4001"),
        (429, "APIGW.0308"),
        (500, "DCS.5000"),
    ],
)
async def test_sdk_reads_every_documented_error(fake_dcs: FaultyDcs, status: int, code: str) -> None:
    """Status, code, message and request id of an error arrive in the SDK's exception."""
    from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException

    await fake_dcs.apply(scripts={"bad": [f"error {status} {code}"]})

    with pytest.raises(ServiceResponseException) as raised:
        await Sdk(fake_dcs.url, SECRET_KEY).create("bad")

    error = raised.value
    assert (error.status_code, error.error_code) == (status, code)
    assert error.error_msg
    assert error.request_id == fake_dcs.calls[-1].request_id


async def test_unknown_task_is_a_400(fake_dcs: FaultyDcs) -> None:
    """The detail of an id that does not exist is refused with DCS.4133."""
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as refused:
        await Sdk(fake_dcs.url, SECRET_KEY).show("b21989ec-2889-4b8e-99db-19c073425ec2")

    assert (refused.value.status_code, refused.value.error_code) == (400, "DCS.4133")


def _json(reply: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(reply.raw_content)
    return parsed


IDENTITIES: dict[str, dict[str, str]] = {
    **WAYS,
    "profile": {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "{token_file}.profile"},
    "metadata": {},
}


def provided_by(identity: str) -> Any:
    """The credentials of the SDK's own provider."""
    from huaweicloudsdkcore.auth import provider

    providers = {
        "pod identity": provider.PodIdentityCredentialProvider,
        "OIDC": provider.OidcStsCredentialProvider,
        "OIDC of the old IAM": provider.EnvCredentialProvider,
        "profile": provider.ProfileCredentialProvider,
        "metadata": provider.MetadataCredentialProvider,
    }
    return providers[identity].get_basic().get_credentials().with_project_id(PROJECT)


@pytest.mark.parametrize("identity", IDENTITIES)
async def test_providers_of_sdk_get_keys(
    fake_dcs: FaultyDcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """Each provider of the SDK gets keys by its protocol, and the keys that it gets sign its calls."""
    from huaweicloudsdkcore.auth.internal import MetadataAccessor

    token = tmp_path / "token"
    token.write_text(Auth().workload_token.get_secret_value())
    (tmp_path / "token.profile").write_text(f"[basic]\nidp_id = {IDP_ID}\nid_token_file = {token}\n")
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", fake_dcs.url)
    for name, value in IDENTITIES[identity].items():
        monkeypatch.setenv(name, value.format(url=fake_dcs.url, token_file=token))
    monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", fake_dcs.url)  # the worker has a setting of another name
    await fake_dcs.apply(auth={"mode": "platform"})

    sdk = Sdk(fake_dcs.url, await asyncio.to_thread(provided_by, identity))
    created = await sdk.create("keyless")

    assert [task.task_id for task in fake_dcs.tasks] == [created.instance_id]
    assert fake_dcs.stats()["issued"]["keys"] >= 1
