"""Where the credentials of object stores come from, and that they are fresh when they are used."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agent_framework_hosting.errors import ConfigurationError, StateUnavailable
from agent_framework_hosting.state.credentials import Expiring, Fetched, container_credentials, managed_identity
from agent_framework_hosting.state.object_places import BlobPlace, S3Place
from agent_framework_hosting.state.objects import ObjectStore
from agent_framework_hosting.state.storage_accounts import Account, account_of


class Endpoint:
    """Hands out what it is told to: `answers` in order, the last one again and again. `asked` holds the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked.append((self.path, dict(self.headers)))
                status, answer = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/credentials"


@pytest.fixture
def endpoint() -> Generator[Endpoint]:
    made = Endpoint()
    serving = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    serving.start()
    yield made
    made.server.shutdown()
    serving.join()
    made.server.server_close()


def role(expires: float, key: str = "ASIAEXAMPLE") -> dict[str, str]:
    moment = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": key, "SecretAccessKey": "SECRET", "Token": "SECRETTOKEN", "Expiration": moment}


def of_container(endpoint: Endpoint, **more: str) -> Expiring[Any]:
    found = container_credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.url, **more})
    assert found is not None
    return found


FAR = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


async def test_lambda_under_snapstart_hands_out_its_role(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, role(FAR))]
    credentials = of_container(endpoint, AWS_CONTAINER_AUTHORIZATION_TOKEN="Bearer of-the-sandbox")
    await credentials.fresh()
    await credentials.fresh()
    assert credentials() == {
        "access_key_id": "ASIAEXAMPLE",
        "secret_access_key": "SECRET",
        "token": "SECRETTOKEN",
        "expires_at": datetime.fromtimestamp(FAR, UTC),
    }
    [(path, headers)] = endpoint.asked
    assert path == "/credentials"
    assert headers["Authorization"] == "Bearer of-the-sandbox"


async def test_a_token_file_is_read_anew_each_time(endpoint: Endpoint, tmp_path: Path) -> None:
    file, now = tmp_path / "token", [0.0]
    endpoint.answers = [(200, role(1000)), (200, role(2000))]
    file.write_text("first\n")
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "not this one",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
    }
    credentials = container_credentials(environment, now=lambda: now[0])
    assert credentials is not None
    await credentials.fresh()
    file.write_text("second")
    now[0] = 800
    await credentials.fresh()
    assert [headers["Authorization"] for _, headers in endpoint.asked] == ["first", "second"]
    file.unlink()
    now[0] = 1999
    with pytest.raises(StateUnavailable, match="AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read: No such file"):
        await credentials.fresh()


@pytest.mark.parametrize(
    "first", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
)
def test_other_credentials_come_first(first: str) -> None:
    environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}
    assert container_credentials(environment) is not None
    assert container_credentials({**environment, first: "x"}) is None
    assert container_credentials({}) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9001/x",
        "http://127.0.0.5/x",
        "http://[::1]:80/x",
        "http://169.254.170.2/x",
        "http://169.254.170.23/x",
        "http://[fd00:ec2::23]/x",
        "https://credentials.example.org/x",
    ],
)
def test_credentials_are_taken_from_where_the_sdks_take_them(url: str) -> None:
    assert container_credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}) is not None


@pytest.mark.parametrize(
    "url", ["http://example.org/SECRET", "http://169.254.169.254/x", "file:///x", "ftp://localhost", "x"]
)
def test_credentials_are_taken_from_nowhere_else(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not taken from without TLS") as failure:
        container_credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
    assert "SECRET" not in str(failure.value)


@pytest.mark.parametrize(
    ("answer", "words", "times"),
    [
        ((403, b"SECRET"), "answered 403", 1),
        ((500, b"SECRET"), "answered 500", 3),
        ((200, b"SECRET"), "gave something else", 3),
        ((200, []), "gave something else", 3),
        ((200, {"AccessKeyId": "SECRET"}), "gave something else", 1),
        ((200, {**role(FAR), "Expiration": "SECRET"}), "gave something else", 1),
        ((200, {**role(FAR), "Expiration": 5}), "gave something else", 1),
    ],
)
async def test_what_is_no_credential_says_where_from(
    endpoint: Endpoint, answer: tuple[int, Any], words: str, times: int
) -> None:
    endpoint.answers = [answer]
    with pytest.raises(
        StateUnavailable, match=f"AWS_CONTAINER_CREDENTIALS_FULL_URI {words}. Check the role"
    ) as failure:
        await of_container(endpoint).fresh()
    assert "SECRET" not in str(failure.value)
    assert len(endpoint.asked) == times


async def test_a_fault_of_the_endpoint_is_got_over(endpoint: Endpoint) -> None:
    endpoint.answers = [(500, b""), (200, b"?"), (200, role(FAR))]
    await of_container(endpoint).fresh()


async def test_nobody_at_the_endpoint_is_told(endpoint: Endpoint) -> None:
    credentials = of_container(endpoint)
    endpoint.server.server_close()
    with pytest.raises(StateUnavailable, match="FULL_URI did not answer"):
        await credentials.fresh()


async def test_a_credential_is_renewed_before_it_expires_and_kept_while_that_fails() -> None:
    now, fetched, failing = 0.0, 0, False

    def fetch() -> Fetched[int]:
        nonlocal fetched
        fetched += 1
        if failing:
            raise StateUnavailable("Planned.")
        return Fetched(fetched, now + 3600)

    credential = Expiring(fetch, now=lambda: now)
    with pytest.raises(StateUnavailable):
        credential()
    for moment, number in ((0, 1), (3299, 1), (3301, 2), (6600, 2)):
        now = moment
        await credential.fresh()
        assert credential() == number
    failing = True
    now = 6700.0
    await credential.fresh()
    await credential.fresh()
    assert (credential(), fetched) == (2, 3)  # Not asked again at once.
    now = 6800.0
    await credential.fresh()
    assert (credential(), fetched) == (2, 4)
    now = 6901.0
    with pytest.raises(StateUnavailable, match="Planned"):
        await credential.fresh()


async def test_many_who_need_a_credential_at_once_fetch_it_once(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, role(FAR))]
    credentials = of_container(endpoint)
    threads = [threading.Thread(target=lambda: asyncio.run(credentials.fresh())) for _ in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(credentials.fresh() for _ in range(8)))
    for thread in threads:
        thread.join()
    assert len(endpoint.asked) == 1


@pytest.mark.needs("moto")
async def test_a_store_signs_with_what_the_container_hands_out(
    endpoint: Endpoint, moto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answers = [(200, role(FAR))]
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url)
    leapt = 0.0
    store = ObjectStore(S3Place("bucket", "credentials"), clock=lambda: -leapt)
    await store.put("k/a", b"x")
    await store.get("k/a")
    assert len(endpoint.asked) == 1
    leapt = 3600.0  # The process is another clone of its snapshot.
    await store.get("k/a")
    assert len(endpoint.asked) == 2


TOKEN = {"access_token": "SECRETTOKEN", "expires_on": str(int(FAR)), "resource": "x", "token_type": "Bearer"}


@pytest.mark.parametrize("client_id", [None, "11111111-2222"])
async def test_a_managed_identity_hands_out_tokens(endpoint: Endpoint, client_id: str | None) -> None:
    endpoint.answers = [(200, TOKEN)]
    identity = managed_identity({"IDENTITY_ENDPOINT": endpoint.url, "IDENTITY_HEADER": "of-the-app"}, client_id)
    assert identity is not None
    await identity.fresh()
    token = identity()
    assert token["token"] == "SECRETTOKEN"
    assert token["expires_at"] == datetime.fromtimestamp(FAR, UTC)
    [(path, headers)] = endpoint.asked
    assert headers["X-IDENTITY-HEADER"] == "of-the-app"
    asked = {"api-version": ["2019-08-01"], "resource": ["https://storage.azure.com/"]}
    assert parse_qs(urlsplit(path).query) == asked | ({"client_id": [client_id]} if client_id else {})
    assert managed_identity({}, client_id) is None


@pytest.mark.parametrize(
    "answer", [{}, {"access_token": "SECRET", "expires_on": "soon"}, {**TOKEN, "expires_on": "1e99"}]
)
async def test_what_is_no_token_says_where_from(endpoint: Endpoint, answer: dict[str, str]) -> None:
    endpoint.answers = [(200, answer)]
    identity = managed_identity({"IDENTITY_ENDPOINT": endpoint.url, "IDENTITY_HEADER": "x"}, None)
    assert identity is not None
    with pytest.raises(StateUnavailable, match="the managed identity gave something else") as failure:
        await identity.fresh()
    assert "SECRET" not in str(failure.value)


async def test_a_store_bears_the_token_of_the_managed_identity(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = {"IDENTITY_ENDPOINT": endpoint.url, "IDENTITY_HEADER": "of-the-app"}
    service = endpoint.url.removesuffix("/credentials")
    for name, value in {**identity, "AzureWebJobsStorage__blobServiceUri": f"{service}/account"}.items():
        monkeypatch.setenv(name, value)
    missing = b"<Error><Code>BlobNotFound</Code></Error>"
    endpoint.answers = [(200, TOKEN), (404, missing)]
    assert await ObjectStore(BlobPlace("container")).get("k/a") is None
    (path, _), (blob, headers) = endpoint.asked
    assert path.startswith("/credentials?")
    assert blob == "/account/container/v1/k/a"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer SECRETTOKEN"


KEY = "c2VjcmV0"
STRING = f"DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY}==;EndpointSuffix=core.windows.net"


@pytest.mark.parametrize(
    ("environment", "account"),
    [
        ({"AzureWebJobsStorage": STRING}, Account("shop", "AzureWebJobsStorage", key=f"{KEY}==")),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": STRING, "AzureWebJobsStorage": "AccountName=other;AccountKey=x"},
            Account("shop", "AZURE_STORAGE_CONNECTION_STRING", key=f"{KEY}=="),
        ),
        (
            {"AzureWebJobsStorage": STRING.replace("core.windows.net", "core.chinacloudapi.cn")},
            Account("shop", "AzureWebJobsStorage", endpoint="https://shop.blob.core.chinacloudapi.cn", key=f"{KEY}=="),
        ),
        (
            {
                "AzureWebJobsStorage": "BlobEndpoint=https://shop.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x="
            },
            Account("shop", "AzureWebJobsStorage", endpoint="https://shop.blob.core.windows.net/", sas="sv=1&sig=x="),
        ),
        (
            {"AzureWebJobsStorage__accountName": "shop", "AzureWebJobsStorage__clientId": "id"},
            Account("shop", "AzureWebJobsStorage__blobServiceUri", client_id="id"),
        ),
        (
            {"AzureWebJobsStorage__blobServiceUri": "https://shop.blob.core.windows.net", "AZURE_CLIENT_ID": "id"},
            Account(
                "shop",
                "AzureWebJobsStorage__blobServiceUri",
                endpoint="https://shop.blob.core.windows.net",
                client_id="id",
            ),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "shop", "AZURE_STORAGE_ACCOUNT_KEY": KEY, "AzureWebJobsStorage": STRING},
            Account("shop", "AZURE_STORAGE_ENDPOINT", key=KEY),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "shop", "AZURE_STORAGE_SAS_TOKEN": "sv=1"},
            Account("shop", "AZURE_STORAGE_ENDPOINT", sas="sv=1"),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "shop", "AZURE_CLIENT_SECRET": "x", "AZURE_CLIENT_ID": "id"},
            Account("shop", "AZURE_STORAGE_ENDPOINT", client_id="id", other=True),
        ),
    ],
)
@pytest.mark.parametrize("wanted", [None, "shop"])
def test_the_environment_names_the_account(environment: dict[str, str], account: Account, wanted: str | None) -> None:
    assert account_of(environment, wanted) == account


def test_the_emulator_has_a_word_of_its_own() -> None:
    account = account_of({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}, None)
    assert (account.name, account.endpoint) == ("devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1")


def test_a_place_that_names_another_account_does_not_get_the_key_of_this_one() -> None:
    environment = {"AzureWebJobsStorage": STRING, "AZURE_CLIENT_ID": "id"}
    assert account_of(environment, "other") == Account("other", "the place", client_id="id")
    named = {"AZURE_STORAGE_ACCOUNT_NAME": "shop", "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    assert account_of(named, "other") == Account("other", "the place")
    assert account_of({"AZURE_STORAGE_ACCOUNT_KEY": KEY}, "other") == Account("other", "the place", key=KEY)


@pytest.mark.parametrize("text", ["", "SECRET", "AccountName=a", "AccountKey=SECRET", "SharedAccessSignature=SECRET"])
def test_what_is_no_connection_string_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Which storage account|is no connection string") as failure:
        account_of({"AzureWebJobsStorage": text}, None)
    assert "SECRET" not in str(failure.value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_ENDPOINT_URL": "http://example.org"}, "AWS_ENDPOINT_URL names another machine without TLS"),
        ({"AWS_ENDPOINT_URL_S3": "example.org"}, "AWS_ENDPOINT_URL_S3 names no endpoint"),
        ({"AWS_ENDPOINT_URL_S3": "https://SECRET@example.org"}, "AWS_ENDPOINT_URL_S3 names no endpoint"),
    ],
)
async def test_an_endpoint_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=words) as failure:
        await ObjectStore(S3Place("bucket")).probe()
    assert "SECRET" not in str(failure.value)


def test_plain_http_to_another_machine_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://example.org")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert S3Place("bucket").connect(1.0).elsewhere
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://vpce-1.s3.eu-west-1.vpce.amazonaws.com")
    assert not S3Place("bucket").connect(1.0).elsewhere


async def test_a_key_that_is_none_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureWebJobsStorage", "AccountName=shop;AccountKey=SECRET-no-base64")
    with pytest.raises(ConfigurationError, match="variables for az://container make no sense") as failure:
        await ObjectStore(BlobPlace("container")).probe()
    assert "SECRET" not in str(failure.value)
    assert failure.value.__suppress_context__
