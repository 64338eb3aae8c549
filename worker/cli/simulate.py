"""The command `dcs-worker simulate`: the fake DCS as a server process."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from worker.cli.common import EXIT_UNAVAILABLE, fail, on_first_signal

if TYPE_CHECKING:
    from worker.tools.fake_dcs import FakeDcs, FakeDcsSettings

AuthMode = Literal["none", "token", "iam", "aksk", "platform"]

Host = Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0: any free port; default: 8090.")]
Seed = Annotated[
    int | None, typer.Option(help="Decides, with task name and number of the POST, which call has which fault.")
]
FaultSelector = Annotated[
    list[str] | None,
    typer.Option(
        help="Fault step and its probability, 'create then drop=0.02'; repeatable. Also an error answer from the field "
        "by its name in docs/errors.md. Creates meet: refused v1, refused v2, task exists. All calls of DCS meet: "
        "stale signature, locked key, unknown key, throttle api, throttle ip, throttle user, backend away, "
        "unpublished api."
    ),
]
Scripts = Annotated[list[str] | None, typer.Option(help="Steps for one task name, 'my-task=hang; ok'; repeatable.")]
Visibility = Annotated[float | None, typer.Option(min=0, help="Seconds until a created task is listed.")]
Latency = Annotated[float | None, typer.Option(min=0, help="Seconds that every call takes.")]
Capacity = Annotated[int | None, typer.Option(min=0, help="Concurrent calls above which latency grows; 0: unlimited.")]
RateLimit = Annotated[
    str | None, typer.Option(help="'100/second', '10/30 second' or '5/minute per project'; calls above it get 429.")
]
Credentials = Annotated[AuthMode | None, typer.Option(help="Credentials that calls must have; default: none.")]
Settings = Annotated[
    str | None,
    typer.Option(help="Any settings as a JSON merge patch over the other options (null: default); see /_settings."),
]
Change = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Apply the options to the running server at this URL; without any, end --fault."),
]

_CREDENTIAL_VARIABLES: Final[dict[AuthMode, dict[str, str]]] = {
    "none": {},
    "token": {"WORKER_AUTH_TOKEN": "token"},
    "aksk": {"WORKER_ACCESS_KEY": "access_key", "WORKER_SECRET_KEY": "secret_key"},
    "iam": {"WORKER_IAM_DOMAIN": "domain", "WORKER_IAM_USER": "user", "WORKER_IAM_PASSWORD": "password"},
    "platform": {"WORKLOAD_TOKEN": "workload_token"},
}
"""Variables of a worker, and the member of the fake DCS's `Auth` with the value of each."""
CHANGE_TIMEOUT_SECONDS: Final = 10.0


def simulate(  # noqa: PLR0913 - each argument is an option of the command
    *,
    host: Host = None,
    port: Port = None,
    seed: Seed = None,
    fault: FaultSelector = None,
    script: Scripts = None,
    visibility: Visibility = None,
    latency: Latency = None,
    capacity: Capacity = None,
    quota: RateLimit = None,
    auth: Credentials = None,
    settings: Settings = None,
    change: Change = None,
) -> None:
    """Serve a fake DCS and IAM until Ctrl-C.

    Fault steps of create calls, alone or after 'create then ': drop, close, hang, html, no id, cut, oversize, redirect,
    throttle [N/UNIT], error STATUS [CODE], reply STATUS [BODY]; the last three also with 'retry after N'; named faults.
    Further steps: ok, slow S, create late S, fail [REASON]. Pages: /_tasks, /_calls, /_stats, /_settings (also PUT).

    --change: each option replaces that setting of the running server, the other settings stay.

    Exit status: 0 ended by Ctrl-C, or changed; 1 the address is in use, 2 wrong usage, 69 no such server at the URL of
    --change.

    Example: dcs-worker simulate --port 8090 --fault 'create then drop=0.05' --fault 'error 503=0.05' --latency 0.05
    """
    options: dict[str, Any] = {"seed": seed, "visibility": visibility, "latency": latency, "capacity": capacity}
    options |= {"quota": quota, "auth": {"mode": auth} if auth else None}
    options["faults"] = dict(map(_fault, fault)) if fault else None
    options["scripts"] = dict(map(_script, script)) if script else None
    given, patch = {name: value for name, value in options.items() if value is not None}, _patch(settings)
    server_settings = _validated(given, patch)
    if change is None:
        asyncio.run(_serve(server_settings, "127.0.0.1" if host is None else host, 8090 if port is None else port))
    elif host is not None or port is not None:
        raise typer.BadParameter("a running server keeps its address", param_hint="--host and --port with --change")
    else:
        _change(change, given, patch)


async def _serve(server_settings: "FakeDcsSettings", host: str, port: int) -> None:
    from worker.tools.fake_dcs import FakeDcs

    stop = asyncio.Event()
    on_first_signal(stop.set)
    try:
        async with FakeDcs(server_settings, host=host, port=port) as fake_dcs:
            typer.echo("\n".join(_announcement(fake_dcs)))
            await stop.wait()
    except OSError as error:
        reason = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise typer.Exit(fail(reason)) from error


def _change(url: str, given: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
    """Change the running fake DCS at `url`: the `given` options, then the merge patch; without both its faults end."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("not an http address")
        address = f"{url.rstrip('/')}/_settings"
        changes, present = dict(given) if given or patch else {"faults": {}}, _settings_at(address)
        for name in {"faults", "scripts"} & changes.keys():  # a merge patch keeps members that it does not name
            changes[name] = dict.fromkeys(present[name]) | changes[name]
        changes = _combined(changes, patch)
        changed = _settings_at(address, json.dumps(changes).encode())
    except HTTPError as error:
        answer = f"{error.code} {error.read().decode(errors='replace').strip()}"
        refused = f"The server at {url} is no fake DCS, or rejects the change: {answer}"[:300]
        raise typer.Exit(fail(refused, EXIT_UNAVAILABLE)) from None
    except (HTTPException, OSError, ValueError) as error:
        unreachable = f"No fake DCS answers at {url}: {getattr(error, 'reason', error)}."
        raise typer.Exit(fail(f"{unreachable} `demo --keep` and `simulate` print its URL.", EXIT_UNAVAILABLE)) from None
    texts = (f"{name} {'none' if changed[name] in ({}, None) else json.dumps(changed[name])}" for name in changes)
    typer.echo(f"From now on: {', '.join(texts)}.")


def _settings_at(address: str, change: bytes | None = None) -> dict[str, Any]:
    """The settings of the fake DCS, after this change. Raises OSError (HTTPError is one), HTTPException, ValueError."""
    from urllib.request import Request, urlopen

    request = Request(address, change, method="PUT" if change else "GET")  # noqa: S310 - only http, checked before
    with urlopen(request, timeout=CHANGE_TIMEOUT_SECONDS) as reply:  # noqa: S310 - as above
        content = json.loads(reply.read())
    if not isinstance(content, dict) or not {"faults", "scripts"} <= content.keys():
        raise ValueError("another server answers there")
    return content


def _combined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One merge patch that changes what `first`, then `second`, would."""
    return {**first} | {
        name: _combined(first[name], value)
        if isinstance(value, Mapping) and isinstance(first.get(name), Mapping)
        else value
        for name, value in second.items()
    }


def _fault(text: str) -> tuple[str, float]:
    step, _, probability = text.rpartition("=")
    try:
        return step.strip(), float(probability)
    except ValueError as error:
        msg = f"{text!r} is not a step and its probability, such as 'create then drop=0.02'"
        raise typer.BadParameter(msg, param_hint="--fault") from error


def _script(text: str) -> tuple[str, list[str]]:
    name, mark, steps = text.partition("=")
    if not mark:
        msg = f"{text!r} is not a task name and its steps, such as 'my-task=hang; ok'"
        raise typer.BadParameter(msg, param_hint="--script")
    return name.strip(), [step.strip() for step in steps.split(";")]


def _patch(text: str | None) -> dict[str, Any]:
    try:
        patch = json.loads(text) if text is not None else {}
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--settings") from error
    if not isinstance(patch, dict):
        raise typer.BadParameter("not a JSON object", param_hint="--settings")
    return patch


def _validated(given: Mapping[str, Any], patch: Mapping[str, Any]) -> "FakeDcsSettings":
    from pydantic import ValidationError

    from worker.tools.fake_dcs import FakeDcsSettings
    from worker.tools.fake_dcs.settings import invalid_members

    try:
        return FakeDcsSettings.model_validate(given).merged(patch)
    except ValidationError as error:
        raise typer.BadParameter(invalid_members(error)) from error


def _announcement(fake_dcs: "FakeDcs") -> Iterator[str]:
    endpoints = json.dumps({"cn-north-4": fake_dcs.url})
    yield f"Fake DCS on {fake_dcs.url}, credentials: {fake_dcs.settings.auth.mode}. Point a worker at it:"
    yield f"  export WORKER_DCS_ENDPOINTS='{endpoints}'"
    yield from (f"  export {line}" for line in _credentials(fake_dcs))
    if fake_dcs.settings.auth.mode == "platform":
        yield "None of them is needed where this is the metadata service: --host 169.254.169.254 --port 80"
    yield f"Received calls: {fake_dcs.url}/_tasks, /_calls, /_stats. Ctrl-C stops it."


def _credentials(fake_dcs: "FakeDcs") -> Iterator[str]:
    """The variables of a worker; a built-in secret is public, a secret of the caller is not printed."""
    from pydantic import SecretStr

    from worker.tools.fake_dcs import Auth

    auth, built_in = fake_dcs.settings.auth, Auth()
    if auth.mode == "none":
        yield "WORKER_AUTH_TOKEN=anything"
    if auth.mode == "iam":
        yield f"WORKER_IAM_ENDPOINT={fake_dcs.url}"
    for variable, member in _CREDENTIAL_VARIABLES[auth.mode].items():
        value, public = getattr(auth, member), getattr(built_in, member)
        if isinstance(public, SecretStr):
            value = public.get_secret_value() if value == public else "'the one you gave'"
        yield f"{variable}={value}"
    if auth.mode == "platform":
        yield from _ways(fake_dcs.url)


def _ways(url: str) -> Iterator[str]:
    """The variables of a worker that takes temporary keys, by each way; the first one that is set is used."""
    from worker.tools.fake_dcs.platform import WAYS

    file = "workload-token"
    yield f"WORKER_CREDENTIALS=platform; echo $WORKLOAD_TOKEN >{file}   # and one of these lines:"
    for way, variables in WAYS.items():
        values = (f"{name}={text.format(url=url, token_file=f'$PWD/{file}')}" for name, text in variables.items())
        yield f"{' '.join(values)}   # {way}"
