"""HTTP API and function URL: payload format 2.0."""

from __future__ import annotations

from typing import Any

from .http import Answer, Event, Headers, HttpEvent, Integration, Scope
from .responses import encoded_body, header_values, streamed_headers
from .scopes import header_lines, http_scope
from .targets import Target, below, decoded_target, encoded_target

HTTP_API = 30.0
"""Seconds that an HTTP API waits for an integration; that cannot be raised (Quotas for HTTP APIs)."""


class HttpApi(HttpEvent):
    """Create AWS Lambda proxy integrations for HTTP APIs; Invoking Lambda function URLs."""

    @classmethod
    def matches(cls, event: Event) -> bool:
        # A "type" marks the events of Lambda authorisers, which look much the same.
        return event.get("version") == "2.0" and "rawPath" in event and "type" not in event

    @property
    def integration(self) -> Integration | None:
        return "function_url" if self.is_function_url else None

    @property
    def patience(self) -> float | None:
        return None if self.is_function_url else HTTP_API

    @property
    def is_function_url(self) -> bool:
        return ".lambda-url." in (self.event["requestContext"].get("domainName") or "")

    @property
    def method(self) -> str:
        return self.event["requestContext"]["http"]["method"]

    @property
    def target(self) -> Target:
        request: dict[str, Any] = self.event["requestContext"]
        path: str = self.event["rawPath"]
        base = self.settings.base_path
        domain: str = request.get("domainName") or ""
        if self.is_function_url:
            # Encoded; a base path can only come from a proxy in front.
            rest = below(path, base)
            return encoded_target("", path) if rest is None else encoded_target(base, rest)
        # Decoded. A named stage is always part of it; the base path of a custom domain never is.
        own = domain.startswith(f"{request.get('apiId')}.")
        stage: str = request.get("stage") or "$default"
        rest = None if stage == "$default" else below(path, f"/{stage}")
        if own or not base:
            return decoded_target("", path) if rest is None else decoded_target(f"/{stage}", rest)
        return decoded_target(base, path if rest is None else rest)

    @property
    def scope(self) -> Scope:
        event = self.event
        lines = header_lines(event.get("headers") or {}, {})
        if cookies := event.get("cookies"):
            # A function URL has them in both places.
            lines = [line for line in lines if line[0] != b"cookie"]
            lines.append((b"cookie", "; ".join(cookies).encode()))
        return http_scope(
            event,
            self.context,
            method=self.method,
            target=self.target,
            query=(event.get("rawQueryString") or "").encode(),
            headers=lines,
            client=event["requestContext"]["http"].get("sourceIp"),
        )

    def result(self, answer: Answer) -> dict[str, Any]:
        headers = header_values(answer.headers, self.settings)
        cookies = headers.pop("set-cookie", None)
        body, is_base64 = encoded_body(answer, self.method, headers.get("content-type"))
        result: dict[str, Any] = {
            "statusCode": answer.status,
            "headers": {name: ",".join(values) for name, values in headers.items()},
            "body": body,
            "isBase64Encoded": is_base64,
        }
        if cookies:
            result["cookies"] = cookies
        return result

    def prelude(self, status: int, headers: Headers) -> dict[str, Any]:
        values = streamed_headers(headers, self.settings)
        cookies = values.pop("set-cookie", None)
        prelude: dict[str, Any] = {
            "statusCode": status,
            "headers": {name: ",".join(several) for name, several in values.items()},
        }
        if cookies:
            prelude["cookies"] = cookies
        return prelude
