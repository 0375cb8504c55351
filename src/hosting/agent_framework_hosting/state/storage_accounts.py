"""Which storage account of Azure, and how to get in: what the environment says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigurationError

# The account of the storage emulator, the same everywhere:
# https://learn.microsoft.com/azure/storage/common/storage-connect-azurite#well-known-storage-account-and-key
EMULATED = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "blobendpoint": "http://127.0.0.1:10000/devstoreaccount1",
}
SUFFIX = "core.windows.net"
CONNECTION_STRINGS = ("AZURE_STORAGE_CONNECTION_STRING", "AzureWebJobsStorage")
KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
SIGNATURES = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
# Of these obstore makes what it needs by itself.
OTHERS = (
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
)


class Account(NamedTuple):
    """A storage account and the way into it; `source` names the setting that it is from.

    Without `key` and `sas` it is the managed identity (`client_id`, where there are several), unless `other` says
    that the environment holds credentials of another kind.
    """

    name: str
    source: str
    endpoint: str | None = None
    key: str | None = None
    sas: str | None = None
    client_id: str | None = None
    other: bool = False


def account_of(environment: Mapping[str, str], wanted: str | None) -> Account:
    """Find the account, or that named `wanted`, and its credentials.

    The variables of the SDKs (`AZURE_STORAGE_…`) come before what a Functions app has for itself
    (`AzureWebJobsStorage` and `AzureWebJobsStorage__…`).

    Raises:
        ConfigurationError: No account is named, or a setting makes no sense.
    """
    for account in (*of_variables(environment), *of_strings(environment), *of_functions(environment)):
        if wanted in (None, account.name):
            return account
    client_id = environment.get("AZURE_CLIENT_ID")
    if wanted is not None:
        return Account(
            wanted,
            "the place",
            key=None if environment.get("AZURE_STORAGE_ACCOUNT_NAME") else first(environment, KEYS),
            sas=None if environment.get("AZURE_STORAGE_ACCOUNT_NAME") else first(environment, SIGNATURES),
            client_id=client_id,
            other=first(environment, OTHERS) is not None,
        )
    raise ConfigurationError(
        "Which storage account az:// means is not known. Set AZURE_STORAGE_ACCOUNT_NAME, AzureWebJobsStorage or "
        "AzureWebJobsStorage__accountName, or write https://<account>.blob.core.windows.net/<container>/<prefix>."
    )


def of_variables(environment: Mapping[str, str]) -> Iterable[Account]:
    if name := environment.get("AZURE_STORAGE_ACCOUNT_NAME"):
        yield Account(
            name,
            "AZURE_STORAGE_ENDPOINT",
            endpoint=first(environment, ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")),
            key=first(environment, KEYS),
            sas=first(environment, SIGNATURES),
            client_id=environment.get("AZURE_CLIENT_ID"),
            other=first(environment, OTHERS) is not None,
        )


def of_strings(environment: Mapping[str, str]) -> Iterable[Account]:
    for variable in CONNECTION_STRINGS:
        if text := environment.get(variable):
            yield of_string(text, variable)


def of_string(text: str, variable: str) -> Account:
    """Read a connection string.

    https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string

    Raises:
        ConfigurationError: It names no account.
    """
    parts = {key.strip().lower(): value.strip() for key, _, value in (part.partition("=") for part in text.split(";"))}
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        parts = EMULATED
    endpoint = parts.get("blobendpoint")
    name = parts.get("accountname") or account_in(endpoint or "")
    if not name or not (parts.get("accountkey") or parts.get("sharedaccesssignature")):
        raise ConfigurationError(
            f"{variable} is no connection string of a storage account: it needs AccountName (or BlobEndpoint) and "
            "AccountKey or SharedAccessSignature. Copy it whole from the account's access keys."
        )
    protocol, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", SUFFIX)
    if endpoint is None and (protocol, suffix) != ("https", SUFFIX):
        endpoint = f"{protocol}://{name}.blob.{suffix}"
    sas = parts.get("sharedaccesssignature")
    return Account(name, variable, endpoint=endpoint, key=parts.get("accountkey"), sas=sas)


def of_functions(environment: Mapping[str, str]) -> Iterable[Account]:
    """Find the account of a Functions app that has an identity in place of a key.

    https://learn.microsoft.com/azure/azure-functions/functions-reference#connecting-to-host-storage-with-an-identity
    """
    endpoint = environment.get("AzureWebJobsStorage__blobServiceUri")
    name = environment.get("AzureWebJobsStorage__accountName") or account_in(endpoint or "")
    if name:
        client_id = environment.get("AzureWebJobsStorage__clientId") or environment.get("AZURE_CLIENT_ID")
        yield Account(name, "AzureWebJobsStorage__blobServiceUri", endpoint=endpoint, client_id=client_id)


def account_in(endpoint: str) -> str:
    """Give the account that an endpoint names: first in its host, or in its path where the host is an emulator's."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/").partition("/")[0] or (parts.hostname or "").partition(".")[0]


def first(environment: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)
