"""The sample's agent and workflow under the framework alone, each turn with newly built objects."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from agent_app import refund_workflow, support_agent
from agent_framework import AgentResponse, AgentSession, Content, InMemoryCheckpointStorage, Message, WorkflowRunResult


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OFFLINE_PACE", "0")


class Conversation:
    """Turns of a new agent each, on a session that went through JSON before each."""

    def __init__(self) -> None:
        self.stored = json.dumps(AgentSession().to_dict())

    async def say(self, message: str | Message) -> AgentResponse:
        session = AgentSession.from_dict(json.loads(self.stored))
        response = await support_agent().run(message, session=session)
        self.stored = json.dumps(session.to_dict())
        return response

    async def answer(self, request: Content, *, approved: bool) -> AgentResponse:
        assert request.id is not None
        assert request.function_call is not None
        reply = Content.from_function_approval_response(approved, request.id, request.function_call)
        return await self.say(Message("user", [reply]))


async def test_a_stored_session_is_continued() -> None:
    conversation = Conversation()
    await conversation.say("Hi, my name is Ada and my order is 1002.")
    assert (await conversation.say("What is my name?")).text == "Your name is Ada."
    response = await conversation.say("Where is my parcel and what does it cost?")
    assert response.text == (
        "The parcel of order 1002 is on its way, expected on Friday. Order 1002 is a teapot for 64.00 EUR."
    )
    assert [content.name for message in response.messages for content in message.contents if content.name] == [
        "track_parcel",
        "look_up_order",
    ]


async def test_an_answer_streams_word_by_word_and_counts_usage() -> None:
    stream = support_agent().run("What is in order 1003?", session=AgentSession(), stream=True)
    pieces = [update.text async for update in stream if update.text]
    final = await stream.get_final_response()
    assert pieces[:3] == ["Order", " 1003", " is"]
    assert "".join(pieces) == final.text == "Order 1003 is a set of six cups for 112.90 EUR."
    assert final.usage_details is not None
    # Two model calls: one writes the arguments of the tool (2 words), one the answer (11 words).
    assert final.usage_details.get("output_token_count") == 2 + 11


@pytest.mark.parametrize(
    ("approved", "answer"),
    [
        (True, "64.00 EUR are refunded for order 1002 (reason: it leaks)."),
        (False, "That was not done (Tool call invocation was rejected by user)."),
    ],
)
async def test_a_refund_waits_for_approval(approved: bool, answer: str) -> None:
    conversation = Conversation()
    asked = await conversation.say("Please refund order 1002 because it leaks.")
    (request,) = asked.user_input_requests
    assert request.function_call is not None
    assert request.function_call.parse_arguments() == {"order_id": "1002", "reason": "it leaks"}
    answered = await conversation.answer(request, approved=approved)
    assert answered.text == answer
    assert not answered.user_input_requests
    assert (await conversation.say("Track my parcel.")).text.startswith("The parcel of order 1002")


async def test_two_refunds_in_one_conversation_are_asked_for_apart() -> None:
    conversation = Conversation()
    (first,) = (await conversation.say("Refund 1001.")).user_input_requests
    await conversation.answer(first, approved=True)
    (second,) = (await conversation.say("Refund 1003.")).user_input_requests
    assert second.id != first.id
    assert (await conversation.answer(second, approved=True)).text.startswith("112.90 EUR")


async def test_a_refund_that_nobody_approved_does_not_give_its_id_to_the_next() -> None:
    conversation = Conversation()
    asked = [(await conversation.say(text)).user_input_requests for text in ("Refund 1002.", "Refund 1003.")]
    asked.append((await conversation.say("Refund 1003.")).user_input_requests)
    assert len({request.id for (request,) in asked}) == 3


async def test_the_same_conversation_gets_the_same_id_in_every_process() -> None:
    (first,), (second,) = [(await Conversation().say("Refund 1002.")).user_input_requests for _ in range(2)]
    assert first.id == second.id


async def test_an_unknown_order_is_said_to_be_unknown() -> None:
    assert (await Conversation().say("Where is parcel 9999?")).text == "There is no order 9999."


async def ask(storage: InMemoryCheckpointStorage, message: str) -> WorkflowRunResult:
    latest = await storage.get_latest(workflow_name="refund_review")
    workflow = refund_workflow()
    if latest is not None:
        await workflow.run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=storage)
    return await workflow.run(message, checkpoint_storage=storage)


async def decide(storage: InMemoryCheckpointStorage, result: WorkflowRunResult, approved: bool) -> list[str]:
    (event,) = result.get_request_info_events()
    latest = await storage.get_latest(workflow_name="refund_review")
    assert latest is not None
    decided = await refund_workflow().run(
        responses={event.request_id: approved}, checkpoint_id=latest.checkpoint_id, checkpoint_storage=storage
    )
    return decided.get_outputs()


@pytest.mark.parametrize(
    ("approved", "answer"),
    [
        (True, "64.00 EUR are refunded for order 1002: a manager agreed."),
        (False, "Order 1002 is not refunded: a manager declined."),
    ],
)
async def test_a_large_refund_waits_for_a_manager(approved: bool, answer: str) -> None:
    storage = InMemoryCheckpointStorage()
    asked = await ask(storage, "Refund 1002, it leaks")
    assert not asked.get_outputs()
    assert asked.get_request_info_events()[0].data.risk == "high"
    assert await decide(storage, asked, approved) == [answer]


async def test_a_small_refund_needs_nobody_but_a_second_one_does() -> None:
    storage = InMemoryCheckpointStorage()
    assert (await ask(storage, "Refund 1001")).get_outputs() == ["18.50 EUR are refunded for order 1001: a small sum."]
    again = await ask(storage, "Refund 1001 once more")
    assert again.get_request_info_events()[0].data.risk == "repeated"
    assert (await ask(InMemoryCheckpointStorage(), "Refund it")).get_outputs() == [
        "Please name the order to refund by its four digits."
    ]


@pytest.fixture
def openai_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict]]:
    """A stand-in for the OpenAI service that records what it is asked."""
    requests: list[dict] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            text = {"type": "output_text", "text": f"answer {len(requests)}", "annotations": []}
            message = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [text]}
            body = json.dumps(
                {
                    "id": f"resp_{len(requests)}",
                    "object": "response",
                    "created_at": 1,
                    "status": "completed",
                    "model": "model",
                    "output": [message],
                    "parallel_tool_calls": True,
                    "tool_choice": "auto",
                    "tools": [],
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        yield requests
        server.shutdown()
        thread.join()


async def test_with_a_key_the_same_agent_runs_on_openai_and_keeps_its_own_history(openai_requests: list[dict]) -> None:
    conversation = Conversation()
    assert (await conversation.say("My name is Ada.")).text == "answer 1"
    assert (await conversation.say("What is my name?")).text == "answer 2"
    first, second = openai_requests
    assert first["store"] is False
    assert {tool["name"] for tool in first["tools"]} == {"look_up_order", "track_parcel", "refund_order"}
    said = json.dumps(second["input"])
    assert "My name is Ada." in said
    assert "answer 1" in said
    assert "previous_response_id" not in second
