"""Where objects are kept: which bucket or container, at which address, and who may go there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigurationError
from .credentials import Expiring, container_credentials, managed_identity, may_be_plain
from .names import check_name
from .storage_accounts import account_of

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, ClientConfig, RetryConfig, S3Config, S3Store

    from .object_answers import Answer
    from .objects import ObjectStore

    Client = S3Store | AzureStore

LAYOUT = "v1"
BLOB_HOST = ".blob.core.windows.net"
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
CONTAINER = r"[a-z0-9](?:-?[a-z0-9]){2,62}"
ACCOUNT = r"[a-z0-9]{3,24}"
LONGEST_PREFIX = 200
AWS_HOST, AZURE_HOST = ".amazonaws.com.", ".blob.core."
TRUE = {"1", "true", "yes", "on"}
ONCE: RetryConfig = {"max_retries": 0}


class Connection(NamedTuple):
    """A client, and the credentials that it may not wait for; `elsewhere` if it is not AWS or Azure that answers."""

    client: Client
    credentials: Expiring[Any] | None
    elsewhere: bool


class ObjectPlace(Protocol):
    """A part of a bucket or container. Its text is for people and holds no secrets."""

    @property
    def root(self) -> str:
        """What the name of every object there starts with."""
        ...

    def connect(self, timeout: float) -> Connection:
        """Make a client as the environment says; a connection that is not made in `timeout` seconds is given up.

        Raises:
            ConfigurationError: The environment makes no sense.
        """
        ...

    def advice(self, answer: Answer) -> str:
        """Say what to do about an answer."""
        ...


@dataclass(frozen=True)
class S3Place:
    """A part of an S3 bucket. Region, endpoint and credentials come from the variables that the AWS SDKs know."""

    bucket: str
    prefix: str = ""
    single_instance = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def description(self) -> str:
        return f"S3 bucket {self}"

    @property
    def root(self) -> str:
        return root(self.prefix)

    def below(self, segment: str) -> S3Place:
        return replace(self, prefix=joined(self.prefix, segment))

    def store(self) -> ObjectStore:
        return object_store(self)

    def connect(self, timeout: float) -> Connection:
        from obstore.store import S3Store

        environment = os.environ
        config: S3Config = {}
        if region := environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
            config["region"] = region
        variable = next((name for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if environment.get(name)), None)
        if variable is not None:
            config["endpoint"] = checked_endpoint(environment[variable], variable, environment)
        credentials = container_credentials(environment)
        with sensible(self):
            client = S3Store(
                self.bucket,
                config=config,
                client_options=client_options(timeout, plain=config.get("endpoint", "").startswith("http:")),
                retry_config=ONCE,
                credential_provider=credentials,
            )
        return Connection(client, credentials, is_elsewhere(config.get("endpoint")))

    def advice(self, answer: Answer) -> str:
        if answer.place_missing:
            return f"there is no bucket {self.bucket}. Create it, or correct the place, AWS_REGION or the endpoint."
        if answer.wrong_region:
            return "the bucket is in another region. Set AWS_REGION to the bucket's."
        if answer.wrong_credentials:
            return (
                "the credentials are missing, wrong or expired. Give the function or machine a role, or set "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones, AWS_SESSION_TOKEN."
            )
        if answer.forbidden:
            return (
                "the role may not do this. It needs s3:ListBucket on the bucket (without it, what is absent is "
                "forbidden too) and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects."
            )
        return other_advice(answer)


@dataclass(frozen=True)
class BlobPlace:
    """A part of a container of Azure Blob Storage. Without `account` the environment names it."""

    container: str
    prefix: str = ""
    account: str | None = None
    single_instance = False

    def __str__(self) -> str:
        start = (
            f"az://{self.container}" if self.account is None else f"https://{self.account}{BLOB_HOST}/{self.container}"
        )
        return f"{start}/{self.prefix}".rstrip("/")

    @property
    def description(self) -> str:
        return f"blob container {self}"

    @property
    def root(self) -> str:
        return root(self.prefix)

    def below(self, segment: str) -> BlobPlace:
        return replace(self, prefix=joined(self.prefix, segment))

    def store(self) -> ObjectStore:
        return object_store(self)

    def connect(self, timeout: float) -> Connection:
        from obstore.store import AzureStore

        environment = os.environ
        account = account_of(environment, self.account)
        config: AzureConfig = {"account_name": account.name}
        if account.key:
            config["account_key"] = account.key
        elif account.sas:
            config["sas_key"] = account.sas
        if account.endpoint:
            config["endpoint"] = checked_endpoint(account.endpoint, account.source, environment)
        keyless = not (account.key or account.sas or account.other)
        identity = managed_identity(environment, account.client_id) if keyless else None
        if account.client_id and identity is None:
            config["client_id"] = account.client_id
        with sensible(self):
            client = AzureStore(
                self.container,
                config=config,
                client_options=client_options(timeout, plain=config.get("endpoint", "").startswith("http:")),
                retry_config=ONCE,
                credential_provider=identity,
            )
        return Connection(client, identity, is_elsewhere(account.endpoint))

    def advice(self, answer: Answer) -> str:
        if answer.place_missing:
            return f"there is no container {self.container}. Create it, or correct the place or the account."
        if answer.wrong_credentials:
            return (
                "the credentials are missing, wrong or expired. Give the app a managed identity, or set "
                "AzureWebJobsStorage, AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN."
            )
        if answer.forbidden:
            return (
                "the identity may not do this. It needs the role Storage Blob Data Contributor on the container; a "
                "SAS needs those to read, create, write, delete and list. The account's firewall may be in the way."
            )
        return other_advice(answer)


def other_advice(answer: Answer) -> str:
    if not answer.status:
        return "check the endpoint and the network. What was stored before is unharmed."
    if answer.passing:
        return "the service is busy or has a fault. Try again."
    return "the service does not do this. What was stored before is unharmed."


def locate_object(url: SplitResult, setting: str) -> S3Place | BlobPlace:
    """Give the place that a URL names; `setting` says whose value it is.

    Raises:
        ConfigurationError: It names none.
    """
    host = url.netloc.rpartition("@")[2]
    shown = f"{url.scheme}://{host}{url.path}"
    if "@" in url.netloc or url.query or url.fragment:
        raise ConfigurationError(
            f"{setting} is {shown} with more to it: an object store's URL has no user, query or fragment. Credentials "
            "come from the platform or from variables (AZURE_STORAGE_SAS_TOKEN holds a SAS)."
        )
    path = unquote(url.path).strip("/")
    account = None
    if url.scheme == "https":
        account, name = host.removesuffix(BLOB_HOST), path.partition("/")[0]
        path = path.partition("/")[2]
        if re.fullmatch(ACCOUNT, account) is None:
            raise ConfigurationError(f"{setting} is {shown}: no storage account is called that.")
    else:
        name = host
    grammar = BUCKET if url.scheme == "s3" else CONTAINER
    if re.fullmatch(grammar, name) is None or name.endswith("--x-s3"):
        what = "general-purpose bucket" if url.scheme == "s3" else "container"
        raise ConfigurationError(
            f"{setting} is {shown}: no {what} is called {name!r}. Write s3://bucket/prefix, az://container/prefix or "
            f"https://account{BLOB_HOST}/container/prefix."
        )
    if path:
        try:
            check_name(path)
        except ValueError:
            path = "x" * (LONGEST_PREFIX + 1)
        if len(path) > LONGEST_PREFIX:
            raise ConfigurationError(
                f"{setting} is {shown}: a prefix is made of at most {LONGEST_PREFIX} of A-Za-z0-9._-, with / between."
            )
    return S3Place(name, path) if url.scheme == "s3" else BlobPlace(name, path, account)


def root(prefix: str) -> str:
    return joined(prefix, LAYOUT) + "/"


def joined(prefix: str, segment: str) -> str:
    return f"{prefix}/{segment}" if prefix else segment


def object_store(place: ObjectPlace) -> ObjectStore:
    if importlib.util.find_spec("obstore") is None:
        raise ConfigurationError(
            f"{place} is an object store, which needs an extra: pip install 'agent-framework-hosting[blob]'"
        )
    from .objects import ObjectStore

    return ObjectStore(place)


@contextlib.contextmanager
def sensible(place: ObjectPlace) -> Generator[None]:
    """Turn what obstore says of its settings, which may repeat them, into a `ConfigurationError`."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, ValueError):
        raise ConfigurationError(
            f"The variables for {place} make no sense together: check those that start with AWS_ or AZURE_, and "
            "AzureWebJobsStorage. A key may be cut off."
        ) from None


def client_options(connect_timeout: float, *, plain: bool) -> ClientConfig:
    return {
        "allow_http": plain,
        "connect_timeout": timedelta(seconds=connect_timeout),
        # The stores have time-outs of their own, which know how much is carried.
        "timeout": timedelta(minutes=10),
        # Sooner than the services close them, also while the process is frozen between two invocations.
        "pool_idle_timeout": timedelta(seconds=15),
    }


def checked_endpoint(url: str, variable: str, environment: Mapping[str, str]) -> str:
    """Return the address of a service.

    Raises:
        ConfigurationError: It is none, or its plain http leaves this machine and nobody has allowed that.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
        raise ConfigurationError(
            f"{variable} names no endpoint: write https://host or, for an emulator, http://host:port."
        )
    allowed = any(environment.get(name, "").lower() in TRUE for name in ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP"))
    if parts.scheme == "http" and not (allowed or may_be_plain(parts.hostname)):
        raise ConfigurationError(
            f"{variable} names another machine without TLS. Use https; for an emulator in a private network set "
            "AWS_ALLOW_HTTP=true (S3) or AZURE_ALLOW_HTTP=true (Azure)."
        )
    return url.rstrip("/")


def is_elsewhere(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "").hostname
    return host is not None and not (AWS_HOST in f"{host}." or AZURE_HOST in f"{host}.")
