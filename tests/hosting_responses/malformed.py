"""Bodies that are malformed or refused under the default rules, each of another kind, with the parameter to blame."""

from __future__ import annotations

from agent_framework_hosting.body import Json


def item(**fields: Json) -> Json:
    return {"input": [fields]}


def user(*parts: Json) -> Json:
    return {"input": [{"role": "user", "content": list(parts)}]}


def image(url: Json, **fields: Json) -> Json:
    return user({"type": "input_image", "image_url": url, **fields})


def file(**fields: Json) -> Json:
    return user({"type": "input_file", **fields})


def result(**fields: Json) -> Json:
    return item(**{"type": "function_call_output", "call_id": "call_1", "output": "1", **fields})


def hi(**parameters: Json) -> Json:
    return {"input": "hi", **parameters}


PNG = "data:image/png;base64,iVBORw0KGgo="
IMAGE_URL = "input[0].content[0].image_url"
FILE = "input[0].content[0].file_data"
HELD: Json = {"type": "message", "role": "user", "content": "hi"}
ANSWER: Json = {"type": "function_call_output", "call_id": "pending_1", "output": "true"}

MALFORMED: dict[str, tuple[Json, str | None]] = {
    # The body.
    "null": (None, "body"),
    "a list": ([], "body"),
    "a text": ("hi", "body"),
    "a number": (1, "body"),
    "an unknown parameter": (hi(messages=[]), "messages"),
    "an unknown parameter that is null": (hi(seed=None), "seed"),
    "a parameter with no name": (hi(**{"": 1}), ""),
    "a parameter with a long name": (hi(**{"x" * 10_000: 1}), "x" * 60 + "…"),
    # The input as a whole.
    "no input": ({"model": "m"}, "input"),
    "input of null": ({"input": None}, "input"),
    "empty text": ({"input": ""}, "input"),
    "no items": ({"input": []}, "input"),
    "input that is a number": ({"input": 1}, "input"),
    "input that is an object": ({"input": {"role": "user", "content": "hi"}}, "input"),
    "an item that is a text": ({"input": ["hi"]}, "input[0]"),
    "an item that is null": ({"input": [HELD, None]}, "input[1]"),
    "an item without type": (item(content="hi"), "input[0].type"),
    "an item of unknown type": (item(type="web_search_call", id="ws_1"), "input[0].type"),
    "an item whose type is no text": (item(type=1), "input[0].type"),
    "an item reference": (item(type="item_reference", id="msg_1"), "input[0].type"),
    "an item reference without type": (item(id="msg_1"), "input[0].type"),
    "a compaction": (item(type="compaction", encrypted_content="x"), "input[0].type"),
    # Messages.
    "a message without role": (item(type="message", content="hi"), "input[0].role"),
    "an unknown role": (item(role="tool", content="hi"), "input[0].role"),
    "a system message": (item(role="system", content="obey"), "input[0].role"),
    "a developer message": (item(type="message", role="developer", content="obey"), "input[0].role"),
    "an assistant message": (item(role="assistant", content="I said so"), "input[0].role"),
    "a message with an unknown field": (item(role="user", content="hi", name="ada"), "input[0].name"),
    "a phase on a user message": (item(role="user", content="hi", phase="commentary"), "input[0].phase"),
    "a message without content": (item(role="user"), "input[0].content"),
    "a message with empty text": (item(role="user", content=""), "input[0].content"),
    "a message without parts": (user(), "input[0].content"),
    "content that is an object": (item(role="user", content={"type": "input_text"}), "input[0].content"),
    "a part that is a text": (user("hi"), "input[0].content[0]"),
    "a part without type": (user({"text": "hi"}), "input[0].content[0].type"),
    "a part of unknown type": (user({"type": "input_audio"}), "input[0].content[0].type"),
    "a part of chat completions": (user({"type": "text", "text": "hi"}), "input[0].content[0].type"),
    "an output part from a user": (user({"type": "output_text", "text": "hi"}), "input[0].content[0].type"),
    "a text part without text": (user({"type": "input_text"}), "input[0].content[0].text"),
    "a text part whose text is a number": (user({"type": "input_text", "text": 1}), "input[0].content[0].text"),
    "a text part with an unknown field": (
        user({"type": "input_text", "text": "hi", "lang": "en"}),
        "input[0].content[0].lang",
    ),
    # Images.
    "an image without URL": (user({"type": "input_image"}), IMAGE_URL),
    "an image by file id": (user({"type": "input_image", "file_id": "file_1"}), "input[0].content[0].file_id"),
    "an image by https": (image("https://example.com/cat.png"), IMAGE_URL),
    "an image by http": (image("http://example.com/cat.png"), IMAGE_URL),
    "an image in a file": (image("file:///etc/passwd"), IMAGE_URL),
    "an image URL that is an object": (image({"url": PNG}), IMAGE_URL),
    "an image that is no image": (image("data:text/html;base64,PGI+"), IMAGE_URL),
    "an image without media type": (image("data:;base64,iVBORw0KGgo="), IMAGE_URL),
    "an image that is not base64": (image("data:image/png,iVBORw0KGgo="), IMAGE_URL),
    "an image with broken base64": (image("data:image/png;base64,iVBORw0KGg"), IMAGE_URL),
    "an image with URL-safe base64": (image("data:image/png;base64,_-8="), IMAGE_URL),
    "an image of nothing": (image("data:image/png;base64,"), IMAGE_URL),
    "an image with a long header": (image("data:image/png;a=" + "b" * 10_000 + ";base64,AA=="), IMAGE_URL),
    "an unknown detail": (image(PNG, detail="huge"), "input[0].content[0].detail"),
    # Files.
    "a file without data": (file(filename="a.txt"), FILE),
    "a file by two ways": (file(filename="a.txt", file_data="AA==", file_url="https://example.com/a"), FILE),
    "a file by id": (file(file_id="file_1"), "input[0].content[0].file_id"),
    "a file by https": (file(file_url="https://example.com/a.pdf"), "input[0].content[0].file_url"),
    "a file without name or type": (file(file_data="AA=="), "input[0].content[0].filename"),
    "a file with broken base64": (file(filename="a.txt", file_data="A\nA=="), FILE),
    "a file whose data is not ASCII": (file(filename="a.txt", file_data="ÄÄ=="), FILE),
    "a file with an empty name": (file(filename="", file_data="AA=="), "input[0].content[0].filename"),
    "a file with an unknown field": (file(filename="a", file_data="AA==", path="/"), "input[0].content[0].path"),
    # What functions gave, and what the model said.
    "a function call": (
        item(type="function_call", call_id="call_1", name="pay", arguments="{}"),
        "input[0].type",
    ),
    "reasoning": (item(type="reasoning", summary=[], encrypted_content="x"), "input[0].type"),
    "an output without call": (item(type="function_call_output", output="1"), "input[0].call_id"),
    "an output for no call": (result(call_id=""), "input[0].call_id"),
    "an output for a long call": (result(call_id="c" * 257), "input[0].call_id"),
    "a call without output": (item(type="function_call_output", call_id="call_1"), "input[0].output"),
    "an output that is an object": (result(output={"ok": True}), "input[0].output"),
    "an output with a video": (
        result(output=[{"type": "input_video", "video_url": "https://example.com"}]),
        "input[0].output[0].type",
    ),
    "an output with an unknown field": (result(is_error=True), "input[0].is_error"),
    "an answer to nothing": (result(call_id="pending_"), "input[0].call_id"),
    "an answer given twice": ({"input": [ANSWER, ANSWER]}, "input[1].call_id"),
    "an answer in parts": (
        result(call_id="pending_1", output=[{"type": "input_text", "text": "true"}]),
        "input[0].output",
    ),
    "an answer beside a message": ({"input": [ANSWER, HELD]}, "input"),
    # Where it goes on.
    "an id that is no text": (hi(previous_response_id=1), "previous_response_id"),
    "an empty id": (hi(previous_response_id=""), "previous_response_id"),
    "a long id": (hi(previous_response_id="r" * 257), "previous_response_id"),
    "a conversation that is a number": (hi(conversation=1), "conversation"),
    "a conversation without id": (hi(conversation={}), "conversation.id"),
    "a conversation with an unknown field": (hi(conversation={"id": "conv_1", "x": 1}), "conversation.x"),
    "two pasts": (hi(previous_response_id="resp_1", conversation="conv_1"), "conversation"),
    "stream as text": (hi(stream="true"), "stream"),
    "store as number": (hi(store=0), "store"),
    "background as text": (hi(background="yes"), "background"),
    "background that is not stored": (hi(background=True, store=False), "background"),
    # Labels.
    "instructions": (hi(instructions="obey"), "instructions"),
    "instructions that are a list": (hi(instructions=["obey"]), "instructions"),
    "a model that is no text": (hi(model=["gpt"]), "model"),
    "metadata that is a list": (hi(metadata=[]), "metadata"),
    "metadata with a number": (hi(metadata={"a": 1}), "metadata.a"),
    "too much metadata": (hi(metadata={str(i): "" for i in range(17)}), "metadata"),
    "metadata with a long key": (hi(metadata={"k" * 65: ""}), "metadata"),
    "metadata with a long value": (hi(metadata={"a": "v" * 513}), "metadata.a"),
    "a user that is a number": (hi(user=1), "user"),
    "a long cache key": (hi(prompt_cache_key="k" * 65), "prompt_cache_key"),
    "unknown stream options": (hi(stream=True, stream_options={"include_usage": True}), "stream_options.include_usage"),
    "stream options that are no object": (hi(stream_options=True), "stream_options"),
    "an unknown include": (hi(include=["file_search_call.results"]), "include[0]"),
    "include as text": (hi(include="reasoning.encrypted_content"), "include"),
    # Options that the operator does not forward, and others' own.
    "a temperature": (hi(temperature=1), "temperature"),
    "a bound of tokens": (hi(max_output_tokens=100), "max_output_tokens"),
    "a tool": (hi(tools=[{"type": "function", "name": "f"}]), "tools"),
    "a hosted tool": (hi(tools=[{"type": "mcp", "server_url": "https://example.com"}]), "tools"),
    "a tool choice": (hi(tool_choice="required"), "tool_choice"),
    "a text format": (hi(text={"format": {"type": "json_object"}}), "text"),
    "reasoning effort": (hi(reasoning={"effort": "low"}), "reasoning"),
    "log probabilities": (hi(top_logprobs=1), "top_logprobs"),
    "truncation": (hi(truncation="auto"), "truncation"),
    "a service tier with a price": (hi(service_tier="priority"), "service_tier"),
    "an unknown service tier": (hi(service_tier="free"), "service_tier"),
    "a stored prompt": (hi(prompt={"id": "pmpt_1"}), "prompt"),
    "moderation": (hi(moderation={"model": "m"}), "moderation"),
}
