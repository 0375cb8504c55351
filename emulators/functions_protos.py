"""Stand-ins for the protobuf classes of the Functions RPC, as strict as protobuf where the worker fills them.

The worker library gets its message classes from the process that runs it, and uses a small part of them. Names and
fields are those of `FunctionRpc.proto` (azure-functions-language-worker-protobuf).
"""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

Wire = dict[str, Any]


class Message(SimpleNamespace):
    """A message with no rules of its own."""


class TypedData:
    """A oneof: exactly one field, or none."""

    KINDS = ("string", "json", "bytes", "http", "int", "double", "stream")

    def __init__(self, **fields: Any) -> None:
        unknown = set(fields) - set(self.KINDS)
        if unknown or len(fields) > 1:
            raise ValueError(f"TypedData takes one of {self.KINDS}, not {sorted(fields)}")
        for kind, value in fields.items():
            expected = {"bytes": bytes, "http": RpcHttp, "int": int, "double": float}.get(kind, str)
            if not isinstance(value, expected):
                raise TypeError(f"TypedData.{kind} is {expected.__name__}, not {type(value).__name__}")
            setattr(self, kind, value)
        self.kind = next(iter(fields), None)

    def WhichOneof(self, group: str) -> str | None:
        return self.kind

    @classmethod
    def from_wire(cls, wire: Wire | None) -> TypedData:
        if not wire:
            return cls()
        ((kind, value),) = wire.items()
        if kind == "bytes":
            value = base64.b64decode(value)
        elif kind == "http":
            value = RpcHttp.from_wire(value)
        return cls(**{kind: value})

    def to_wire(self) -> Wire | None:
        if self.kind is None:
            return None
        value = getattr(self, self.kind)
        if self.kind == "bytes":
            value = base64.b64encode(value).decode()
        elif self.kind == "http":
            value = value.to_wire()
        return {self.kind: value}


class RpcHttp:
    """An HTTP request or response. Maps hold one text per name."""

    def __init__(
        self,
        *,
        method: str = "",
        url: str = "",
        headers: dict[str, str] | None = None,
        body: TypedData | None = None,
        params: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        status_code: str = "",
        cookies: list[RpcHttpCookie] | None = None,
        enable_content_negotiation: bool = False,
    ) -> None:
        self.method, self.url, self.status_code = text(method), text(url), text(status_code)
        self.headers, self.params, self.query = texts(headers), texts(params), texts(query)
        self.body = body if body is not None else TypedData()
        self.cookies = list(cookies or ())
        self.enable_content_negotiation = enable_content_negotiation

    @classmethod
    def from_wire(cls, wire: Wire) -> RpcHttp:
        fields: Wire = {**wire, "body": TypedData.from_wire(wire.get("body"))}
        return cls(**fields)

    def to_wire(self) -> Wire:
        return {
            "status_code": self.status_code,
            "headers": self.headers,
            "cookies": [cookie.to_wire() for cookie in self.cookies],
            "body": self.body.to_wire(),
        }


class RpcHttpCookie:
    """A cookie of a response; the optional parts are Nullable messages."""

    class SameSite:
        Lax = 1
        Strict = 2
        ExplicitNone = 3

    def __init__(self, *, name: str, value: str, **optional: Any) -> None:
        self.name, self.value, self.optional = text(name), text(value), optional

    def to_wire(self) -> Wire:
        wire: Wire = {"name": self.name, "value": self.value}
        for name, nullable in self.optional.items():
            plain = getattr(nullable, "value", nullable)
            wire[name] = getattr(plain, "seconds", plain)
        return wire


# The name is a Python keyword: protobuf, too, reaches it by getattr only.
setattr(RpcHttpCookie.SameSite, "None", 0)


class StatusResult(Message):
    Failure = 0
    Success = 1
    Cancelled = 2


class BindingInfo(Message):
    undefined = 0
    out = 1
    inout = 2


class ParameterBinding:
    def __init__(self, *, name: str, data: TypedData | None = None) -> None:
        self.name = text(name)
        self.data = data if data is not None else TypedData()

    def WhichOneof(self, group: str) -> str:
        return "data"


class FunctionMetadataResponse(Message): ...


class FunctionLoadResponse(Message): ...


class InvocationResponse(Message): ...


class NullableBool(Message): ...


class NullableDouble(Message): ...


class NullableString(Message): ...


class NullableTimestamp(Message): ...


class RpcException(Message): ...


class RpcFunctionMetadata(Message): ...


class RpcRetryOptions(Message): ...


class Timestamp(Message): ...


class WorkerInitResponse(Message): ...


class WorkerMetadata(Message): ...


def text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a protobuf string is str, not {type(value).__name__}")
    return value


def texts(values: dict[str, str] | None) -> dict[str, str]:
    return {text(name): text(value) for name, value in (values or {}).items()}
