"""Events as AWS sends them, from a request as a client sends it, or from the messages of a queue.

A request is a method, a percent-encoded path, an encoded query string, header lines, cookies and a body. What the
platform makes of them follows live captures (2026-07): REST API, function URL and ALB keep a path encoded; an HTTP API
decodes it twice; an ALB splits a query without decoding it; REST and payload 1.0 decode it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any
from urllib.parse import parse_qsl, unquote

Event = dict[str, Any]
TEXT = ("text/", "application/json", "application/javascript", "application/xml")


@dataclass(frozen=True)
class HttpRequest:
    """What a client sends. `path` begins with a slash and is percent-encoded, `query` is without the question mark."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    cookies: Sequence[str] = ()
    body: bytes = b""
    source_ip: str = "203.0.113.7"


def function_url(request: HttpRequest, *, authorizer: Mapping[str, Any] | None = None) -> Event:
    """Payload 2.0 of a function URL; `authorizer` is `{"iam": …}` with `AuthType: AWS_IAM`, else absent."""
    domain = "abcdefgh.lambda-url.eu-central-1.on.aws"
    event = payload_2(request, "abcdefgh", domain, request.path, unquote(request.path), "$default", authorizer)
    if request.cookies:
        event["headers"]["cookie"] = "; ".join(request.cookies)
    return event


def http_api(
    request: HttpRequest,
    *,
    stage: str = "$default",
    domain: str | None = None,
    authorizer: Mapping[str, Any] | None = None,
) -> Event:
    """Payload 2.0 of an HTTP API. A named stage is in the path, also with a custom `domain`; its base path never is."""
    path = unquote(unquote(request.path))
    if stage != "$default":
        path = f"/{stage}{path}"
    domain = domain or "a1b2c3.execute-api.eu-central-1.amazonaws.com"
    return payload_2(request, "a1b2c3", domain, path, path, stage, authorizer)


def payload_2(
    request: HttpRequest,
    api: str,
    domain: str,
    raw_path: str,
    path: str,
    stage: str,
    authorizer: Mapping[str, Any] | None,
) -> Event:
    headers: dict[str, str] = {}
    for name, value in [*request.headers, *forwarded(request, domain)]:
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    body, is_base64 = encoded(request)
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": api,
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.source_ip,
                "userAgent": "tests",
            },
            "requestId": "f2a1",
            "routeKey": "$default",
            "stage": stage,
            "time": "22/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1795341600000,
        },
        "isBase64Encoded": is_base64,
    }
    if request.cookies:
        event["cookies"] = list(request.cookies)
    if request.query:
        pairs: dict[str, list[str]] = grouped(parse_qsl(request.query, keep_blank_values=True))
        event["queryStringParameters"] = {name: ",".join(values) for name, values in pairs.items()}
    if request.body:
        event["body"] = body
    if authorizer is not None:
        event["requestContext"]["authorizer"] = dict(authorizer)
    return event


def http_api_v1(
    request: HttpRequest,
    *,
    stage: str = "$default",
    domain: str | None = None,
    base_path: str = "",
    authorizer: Mapping[str, Any] | None = None,
) -> Event:
    """Payload 1.0 of an HTTP API: the path has the stage, or with a custom `domain` the mapping's base path."""
    path = unquote(unquote(request.path))
    prefix = base_path if domain else "" if stage == "$default" else f"/{stage}"
    event = payload_1(request, f"{prefix}{path}", f"{prefix}{path}", stage, domain)
    event["version"] = "1.0"
    event["requestContext"]["authorizer"] = dict(authorizer or {"claims": None, "scopes": None})
    return event


def rest_api(
    request: HttpRequest,
    *,
    stage: str = "prod",
    domain: str | None = None,
    base_path: str = "",
    authorizer: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Event:
    """A REST API's proxy event: the path is without stage, with a custom `domain` it has the mapping's base path."""
    path = f"{base_path}{request.path}" if domain else request.path
    event = payload_1(request, path, path if domain else f"/{stage}{path}", stage, domain)
    event["requestContext"]["identity"].update(identity or {})
    if authorizer is not None:
        event["requestContext"]["authorizer"] = dict(authorizer)
    return event


def payload_1(request: HttpRequest, path: str, full_path: str, stage: str, domain: str | None) -> Event:
    domain = domain or "a1b2c3.execute-api.eu-central-1.amazonaws.com"
    lines = [*request.headers, *forwarded(request, domain)]
    if request.cookies:
        lines.append(("cookie", "; ".join(request.cookies)))
    headers = grouped(lines)
    query = grouped(parse_qsl(request.query, keep_blank_values=True))
    body, is_base64 = encoded(request)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3",
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "httpMethod": request.method,
            "identity": {
                "accessKey": None,
                "accountId": None,
                "caller": None,
                "cognitoAuthenticationProvider": None,
                "cognitoAuthenticationType": None,
                "cognitoIdentityId": None,
                "cognitoIdentityPoolId": None,
                "principalOrgId": None,
                "sourceIp": request.source_ip,
                "user": None,
                "userAgent": "tests",
                "userArn": None,
            },
            "path": full_path,
            "protocol": "HTTP/1.1",
            "requestId": "f2a1",
            "resourcePath": "/{proxy+}",
            "stage": stage,
        },
        "body": body if request.body else None,
        "isBase64Encoded": is_base64,
    }


def load_balancer(request: HttpRequest, *, multi_value: bool = False) -> Event:
    """An ALB's event; `multi_value` is the target group's `lambda.multi_value_headers.enabled`."""
    lines = [*request.headers]
    earlier = [value for name, value in lines if name.lower() == "x-forwarded-for"]
    lines = [line for line in lines if line[0].lower() != "x-forwarded-for"]
    lines += [
        ("host", "lb-1.eu-central-1.elb.amazonaws.com"),
        ("x-forwarded-for", ", ".join([*earlier, request.source_ip])),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "http"),
    ]
    if request.cookies:
        lines.append(("cookie", "; ".join(request.cookies)))
    headers = grouped([(name.lower(), value) for name, value in lines])
    parts = [part.partition("=") for part in request.query.split("&") if part]
    query = grouped([(name, value) for name, _, value in parts])
    body, is_base64 = encoded(request)
    event: Event = {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/t/1"}},
        "httpMethod": request.method,
        "path": request.path,
        "body": body,
        "isBase64Encoded": is_base64,
    }
    if multi_value:
        event |= {"multiValueHeaders": headers, "multiValueQueryStringParameters": query}
    else:
        event["headers"] = {name: values[-1] for name, values in headers.items()}
        event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
    return event


def forwarded(request: HttpRequest, domain: str) -> list[tuple[str, str]]:
    return [
        ("Host", domain),
        ("X-Forwarded-For", request.source_ip),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
    ]


def sqs(*bodies: str, fifo_group: str | None = None) -> Event:
    """A batch of a queue's messages with these bodies; with `fifo_group` of a FIFO queue, all in that group."""
    queue = "wakes" if fifo_group is None else "wakes.fifo"
    records = [message(number, body, queue) for number, body in enumerate(bodies, 1)]
    if fifo_group is not None:
        for number, record in enumerate(records, 1):
            record["attributes"] |= {
                "MessageDeduplicationId": f"once-{number}",
                "MessageGroupId": fifo_group,
                "SequenceNumber": f"{18849496460467696128 + 256 * number}",
            }
    return {"Records": records}


def message(number: int, body: str, queue: str) -> dict[str, Any]:
    return {
        "messageId": f"00000000-0000-4000-8000-{number:012}",
        "receiptHandle": f"handle-{number}",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795341600000",
            "SenderId": "123456789012",
            "ApproximateFirstReceiveTimestamp": "1795341600001",
        },
        "messageAttributes": {},
        "md5OfBody": md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:{queue}",
        "awsRegion": "eu-central-1",
    }


def grouped(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def encoded(request: HttpRequest) -> tuple[str, bool]:
    """Give the body as the platforms do: text as it is, everything else base64."""
    content_type = next((value for name, value in request.headers if name.lower() == "content-type"), "")
    if content_type.startswith(TEXT):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return (b64encode(request.body).decode(), True) if request.body else ("", False)
