"""Validates objects and events of the Responses API against the Open Responses document of 2026-04-24.

The document lies beside the project, in `shared/data`; it is not a part of it.

It is stricter than its clients in one place, which is lifted here: a `text.format` of type `json_schema` would have to
say null for its schema, where OpenAI's own service gives it back.

It is laxer than them in these, which `check_event` and `check_stream` ask for beside it: the items of
`output_item.added` and `.done` may be null there; `logprobs` may be lacking in text events, which the official SDK
reads without asking; sequence numbers, indexes, the pairs of added and done, and deltas that add up to what is done
are only in its prose. It names the summary's events as the SDK does, but not those of reasoning text
(`response.reasoning.delta` there, `response.reasoning_text.delta` in the SDK): a server does best to send summaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = "shared/data/open-responses-2026-04-24.json"
TEXT_EVENTS = ("response.output_text.delta", "response.output_text.done")
ENDINGS = ("response.completed", "response.incomplete", "response.failed")


@cache
def find_document() -> Path | None:
    """Look beside the project, and beside what it is checked out in."""
    for folder in Path(__file__).resolve().parents[3:]:
        for place in (folder, *folder.glob("*/")):
            if (place / DOCUMENT).is_file():
                return place / DOCUMENT
    return None


@cache
def document() -> Any:
    path = find_document()
    assert path is not None
    read = msgspec.json.decode(path.read_bytes())
    read["components"]["schemas"]["JsonSchemaResponseFormat"]["properties"]["schema"] = {"type": ["object", "null"]}
    return read


def one_of(validator: Any, branches: Sequence[Any], instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """As `oneOf`, but a discriminator chooses the branch, so that an error tells what is wrong with that one."""
    if "discriminator" not in schema:
        yield from Draft202012Validator.VALIDATORS["oneOf"](validator, branches, instance, schema)
        return
    kind = instance.get("type") if isinstance(instance, dict) else None
    for branch in branches:
        named = document()["components"]["schemas"][branch["$ref"].rpartition("/")[2]]
        if kind in named["properties"]["type"]["enum"]:
            yield from validator.descend(instance, branch)
            return
    yield ValidationError(f"There is no {kind!r} here.")


@cache
def validator_of(name: str) -> Validator:
    registry: Any = Registry().with_resource("urn:document", Resource(document(), DRAFT202012))
    kind: Any = extend(Draft202012Validator, {"oneOf": one_of})
    return kind({"$ref": f"urn:document#/components/schemas/{name}"}, registry=registry)


@cache
def event_schemas() -> dict[str, str]:
    """Give the name of the schema of each type of event."""
    schemas = document()["components"]["schemas"]
    return {schemas[name]["properties"]["type"]["enum"][0]: name for name in schemas if name.endswith("StreamingEvent")}


def check(name: str, value: Any) -> None:
    """Check a JSON value against a schema of the document.

    Where the document is missing nothing is checked, which the end of a run tells.

    Raises:
        ValidationError: It does not fit.
    """
    if find_document() is None:
        return
    if (error := best_match(validator_of(name).iter_errors(value))) is not None:
        raise error


def check_response(response: Any) -> None:
    check("ResponseResource", response)


def check_item(item: Any) -> None:
    check("ItemField", item)


def check_event(event: Any) -> None:
    if find_document() is not None:
        check(event_schemas()[event["type"]], event)
    if event["type"] in TEXT_EVENTS:
        assert event["logprobs"] == [], event
    if event["type"].startswith("response.output_item."):
        assert event["item"] is not None, event


def check_stream(events: Sequence[Any]) -> None:
    """Check a whole stream: each event, their order, and that what is done is what the deltas added up to."""
    for number, event in enumerate(events):
        check_event(event)
        assert event["sequence_number"] == number
    opening = ["response.created", "response.queued", "response.in_progress"]
    if events[0]["response"]["status"] != "queued":
        opening.remove("response.queued")
    assert [event["type"] for event in events[: len(opening)]] == opening
    assert events[-1]["type"] in ENDINGS
    items: list[Any] = []
    texts: dict[tuple[Any, ...], str] = {}
    parts: list[tuple[Any, ...]] = []
    for event in events[len(opening) : -1]:
        _, kind, step = event["type"].rsplit(".", 2)
        if kind == "output_item":
            check_item_event(event, step, items, parts)
            continue
        item = items[event["output_index"]]
        assert item["id"] == event["item_id"]
        assert item["open"]
        place = (event["item_id"], event.get("content_index"), event.get("summary_index"))
        if kind in ("content_part", "reasoning_summary_part"):
            (parts.append if step == "added" else parts.remove)(place)
        elif step == "delta":
            assert event["delta"]
            texts[place] = texts.get(place, "") + event["delta"]
        elif step == "done":
            field = {"refusal": "refusal", "function_call_arguments": "arguments"}.get(kind, "text")
            assert event[field] == texts.get(place, "")
        if kind not in ("function_call_arguments", "content_part", "reasoning_summary_part"):
            assert place in parts, event
    assert not parts
    assert not any(item["open"] for item in items)
    assert [item["done"] for item in items] == events[-1]["response"]["output"]


def check_item_event(event: Any, step: str, items: list[Any], parts: list[tuple[Any, ...]]) -> None:
    item = event["item"]
    if step == "added":
        assert event["output_index"] == len(items)
        assert item["id"] not in {known["id"] for known in items}
        items.append({"id": item["id"], "type": item["type"], "open": True})
        return
    known = items[event["output_index"]]
    assert known["open"]
    assert (known["id"], known["type"]) == (item["id"], item["type"])
    assert not [part for part in parts if part[0] == item["id"]]
    known.update(open=False, done=item)
