"""REST API, and HTTP API with payload format 1.0."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from .http import Answer, Event, Headers, HttpEvent, Integration, Scope
from .responses import encoded_body, header_values, streamed_headers
from .scopes import header_lines, http_scope, query_parameters
from .targets import Target, below, decoded_target, encoded_target


class RestApi(HttpEvent):
    """Lambda proxy integrations in API Gateway: Input format of a Lambda function for proxy integration."""

    @classmethod
    def matches(cls, event: Event) -> bool:
        # A "type" marks the events of Lambda authorisers, which look much the same.
        return "resource" in event and "httpMethod" in event and "requestContext" in event and "type" not in event

    @property
    def integration(self) -> Integration | None:
        return None if "version" in self.event else "rest_api"

    @property
    def target(self) -> Target:
        request: dict[str, Any] = self.event["requestContext"]
        path: str = self.event.get("path") or "/"
        stage = f"/{request.get('stage') or '$default'}"
        decoded = self.event.get("version") == "1.0"
        make = decoded_target if decoded else encoded_target
        if not (request.get("domainName") or "").startswith(f"{request.get('apiId')}."):
            # A custom domain: the base path of its mapping is part of the path, the stage is not.
            base = self.settings.base_path
            rest = below(path, base)
            return make("", path) if rest is None else make(base, rest)
        if decoded:
            rest = below(path, stage)
            return make("", path) if rest is None else make(stage, rest)
        # A REST API has cut its stage off; callers still write it.
        full: str = request.get("path") or path
        return make(stage if full != path and below(full, stage) is not None else "", path)

    @property
    def scope(self) -> Scope:
        event = self.event
        lines = header_lines(event.get("headers") or {}, event.get("multiValueHeaders") or {})
        identity: dict[str, Any] = event["requestContext"].get("identity") or {}
        # API Gateway has decoded the parameters; their order among each other is lost.
        return http_scope(
            event,
            self.context,
            method=event["httpMethod"],
            target=self.target,
            query=urlencode(query_parameters(event), doseq=True).encode(),
            headers=lines,
            client=identity.get("sourceIp"),
        )

    def result(self, answer: Answer) -> dict[str, Any]:
        headers = header_values(answer.headers, self.settings)
        body, is_base64 = encoded_body(answer, self.event["httpMethod"], headers.get("content-type"))
        return {
            "statusCode": answer.status,
            **single_and_multiple(headers),
            "body": body,
            "isBase64Encoded": is_base64,
        }

    def prelude(self, status: int, headers: Headers) -> dict[str, Any]:
        return {"statusCode": status, **single_and_multiple(streamed_headers(headers, self.settings))}


def single_and_multiple(headers: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "headers": {name: values[0] for name, values in headers.items() if len(values) == 1},
        "multiValueHeaders": {name: values for name, values in headers.items() if len(values) > 1},
    }
