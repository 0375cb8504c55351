"""Application Load Balancer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from .http import Answer, Event, HttpEvent, Scope
from .responses import encoded_body, header_values
from .scopes import header_lines, http_scope, query_parameters
from .targets import Target, below, encoded_target


class LoadBalancer(HttpEvent):
    """Use Lambda functions as targets of an Application Load Balancer."""

    bound = 1024 * 1024

    @classmethod
    def matches(cls, event: Event) -> bool:
        request = event.get("requestContext")
        return isinstance(request, dict) and "elb" in request and "httpMethod" in event

    @property
    def target(self) -> Target:
        path: str = self.event.get("path") or "/"
        base = self.settings.base_path
        rest = below(path, base)
        return encoded_target("", path) if rest is None else encoded_target(base, rest)

    @property
    def scope(self) -> Scope:
        event = self.event
        # Health checks have few headers, sometimes none.
        lines = header_lines(event.get("headers") or {}, event.get("multiValueHeaders") or {})
        return http_scope(
            event,
            self.context,
            method=event["httpMethod"],
            target=self.target,
            query="&".join(parameters(event)).encode(),
            headers=lines,
            client=peer(dict(lines).get(b"x-forwarded-for", b"").decode()),
        )

    def result(self, answer: Answer) -> dict[str, Any]:
        headers = header_values(answer.headers, self.settings)
        body, is_base64 = encoded_body(answer, self.event["httpMethod"], headers.get("content-type"))
        result: dict[str, Any] = {"statusCode": answer.status, "body": body, "isBase64Encoded": is_base64}
        # Whether the target group has multi-value headers shows in the request; the response must be alike.
        if self.event.get("multiValueHeaders") is not None:
            result["multiValueHeaders"] = headers
        else:
            cookies = headers.pop("set-cookie", [])
            single = {name: ", ".join(values) for name, values in headers.items()}
            single.update(zip(spellings("set-cookie"), cookies, strict=False))
            result["headers"] = single
        return result


def parameters(event: Event) -> Iterator[str]:
    """Give the query's parts as they were sent: the load balancer has split them and not decoded them."""
    for name, values in query_parameters(event).items():
        for value in [values] if isinstance(values, str) else values:
            yield f"{name}={value}"


def peer(forwarded: str) -> str | None:
    """Give whom the load balancer itself saw: the last entry. Those before it are the caller's own words."""
    if not forwarded:
        return None
    address = forwarded.rpartition(",")[2].strip()
    if address.startswith("["):
        return address[1:].partition("]")[0]
    # With `routing.http.xff_client_port.enabled` a port follows.
    return address.partition(":")[0] if address.count(":") == 1 else address


def spellings(name: str) -> Iterator[str]:
    """Spell a header name in all cases: the only way to send it twice where a header has one value."""
    return map("".join, islice(product(*((c, c.upper()) if c.isalpha() else (c,) for c in name)), 512))
