"""The public surface, as people port code to it: names, order and defaults.

The tables are what was promised, written down here by hand; the package is held against them. More may come, but only
as keyword-only parameters with defaults: what was written against the tables goes on working.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from datetime import timedelta
from inspect import Parameter
from typing import Any, get_type_hints

import pytest

import agent_framework_hosting as package
from agent_framework_hosting_aws_lambda import LambdaHandler
from agent_framework_hosting_azure_functions import HostFunctionApp
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.channels import serving
from tests.support.targets import ScriptedAgent

# Parameters as in a `def`; a default of `...` is one that is there, whatever it is.
CONSTRUCTORS = {
    "AgentFrameworkHost": "target, *, channels, middleware=(), debug=False, checkpoint_location=None, state_dir=None, "
    "limits=..., inbox=None",
    "HostLimits": "body_bytes=4 * 2**20, session_bytes=8 * 2**20, lease=seconds(9), turn_timeout=seconds(20), "
    "update_attempts=5, mailbox_updates=1000, memory_sessions=10_000, retention=seconds(30 * 86_400)",
    "ChannelContribution": "routes=(), commands=(), on_startup=(), on_shutdown=(), middleware=(), *, root_routes=(), "
    "on_provision=(), on_update=None, authenticated=False",
    "ChannelRequest": "channel, operation, input, session=None, options=None, session_mode='auto', metadata=..., "
    "attributes=..., stream=False, identity=None, responses=None",
    "ChannelSession": "isolation_key=None, *, parent=None",
    "ChannelIdentity": "channel, native_id, attributes=None",
    "ChannelCommand": "name, description, handle",
    "ChannelCommandContext": "request, reply",
    "HostedRunResult": "result, *, session=None, pending=()",
    "PendingRequest": "id, kind, data, response_schema",
    "IsolationKeys": "user_key=None, chat_key=None",
    "InboundUpdate": "channel, id, isolation_key, payload, order, expires=None",
}
RUN = "self, request, *, run_hook=None, protocol_request=None, response_hook=None, channel_name=None"
RUN_STREAM = (
    "self, request, *, run_hook=None, protocol_request=None, stream_update_hook=None, response_hook=None, "
    "channel_name=None"
)
METHODS = {
    "AgentFrameworkHost.serve": "self, *, host='127.0.0.1', port=8000, workers=1, **config",
    "AgentFrameworkHost.reset_session": "async self, isolation_key",
    "AgentFrameworkHost.provision": "async self, *, dry_run=False",
    "Channel.contribute": "self, context",
    "ChannelContext.run": f"async {RUN}",
    "ChannelContext.run_stream": f"async {RUN_STREAM}",
    "ChannelContext.reset_session": "async self, isolation_key",
    "ChannelContext.accept": "async self, update",
    "Inbox.wake": "async self, isolation_key, *, delay=0",
    "HostedStream.__aiter__": "self",
    "HostedStream.feed": "async self, receive",
    "HostedStream.__await__": "self",
    "HostedStream.get_final_response": "async self",
    "HostedStream.aclose": "async self",
    "ChannelCommandContext.reply": "async self, text",
    "ChannelCommandContext.reset_session": "async self",
    "HostedRunResult.replace": "self, *, result=..., session=..., pending=...",
}
FUNCTIONS = {
    "get_current_isolation_keys": "",
    "set_current_isolation_keys": "keys",
    "reset_current_isolation_keys": "token",
    "isolation_key": "*parts",
}
OUTER = {
    InvocationsChannel: "path='/invocations', *, run_hook=None, response_hook=None, stream_update_hook=None, "
    "auth=None, allow_anonymous=False, keep_alive=15.0",
    LambdaHandler: "host",
    HostFunctionApp: "host",
}
ATTRIBUTES = {
    "Channel": ["name", "path"],
    "ChannelContext": ["documents"],
    "HostedStream": ["session"],
}
ERRORS = ["ConfigurationError", "SessionTooLarge", "StateDamaged", "StateUnavailable", "TurnBusy", "TurnConflict"]
MODULES = {
    "auth": ["Auth", "AuthenticationFailed", "Authenticator", "Unauthenticated"],
    "body": ["BodyTooLarge", "InvalidBody", "Json", "UnsupportedBody", "decode_json", "read_body", "read_json"],
    "deadline": ["DeadlineReached", "current_deadline", "set_deadline"],
    "exchange": ["Exchange"],
    "jsonable": ["NotJson", "jsonable", "plain"],
    "keys": ["check_key"],
    "lifespan": ["Lifespan", "LifespanFailed"],
    "outputs": ["contents_of", "outputs_of", "own_tools"],
    "problems": ["STOP_RETRIES", "Problem", "problem_of"],
    "shielding": ["ended", "shielded", "together"],
    "sse": ["EVENT_HEADERS", "SILENCE", "EventStream", "Outgoing", "encode_event"],
    "storage": ["StateCheckpointStorage", "StateSessionStore", "open_store"],
    "surrogates": ["scrub", "utf8"],
    "telemetry": ["set_platform_attributes"],
}
ALIASES = ["Auth", "ChannelResponseHook", "ChannelRunHook", "ChannelStreamUpdateHook", "StateStore", "Target"]


def seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


def promised(text: str) -> list[Parameter]:
    return list(inspect.signature(eval(f"lambda {text}: None", {"seconds": seconds})).parameters.values())


def complaint(text: str, function: Callable[..., Any]) -> str:
    """Say what a function lacks of a promise; empty if it keeps it."""
    given = inspect.signature(function).parameters
    expected = promised(text.removeprefix("async "))
    names = [parameter.name for parameter in expected]
    if [name for name in given if name in names] != names:
        return f"{list(given)} is not {names}"
    for parameter in expected:
        found = given[parameter.name]
        if found.kind is not parameter.kind:
            return f"{parameter.name} is {found.kind.description}, not {parameter.kind.description}"
        if parameter.default is ... and found.default is not Parameter.empty:
            continue
        if found.default != parameter.default:
            return f"{parameter.name} is {found.default!r} by default, not {parameter.default!r}"
    for name, found in given.items():
        if name not in names and (found.kind is not Parameter.KEYWORD_ONLY or found.default is Parameter.empty):
            return f"{name} is an addition that every caller notices"
    if text.startswith("async ") is not inspect.iscoroutinefunction(function):
        return "one of them is a coroutine function, the other is not"
    return ""


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        ("a, b=1, *, c=2", lambda a, b=1, *, c=2, more=3: None, ""),
        ("a, *, c=...", lambda a, *, c=5: None, ""),
        ("a, b", lambda b, a: None, "['b', 'a'] is not ['a', 'b']"),
        ("a, b", lambda a: None, "['a'] is not ['a', 'b']"),
        ("a, b=1", lambda a, b=2: None, "b is 2 by default, not 1"),
        ("a, b=...", lambda a, b: None, "b is <class 'inspect._empty'> by default, not Ellipsis"),
        ("a, b", lambda a, b=1: None, "b is 1 by default, not <class 'inspect._empty'>"),
        ("a, *, b", lambda a, b: None, "b is positional or keyword, not keyword-only"),
        ("a", lambda a, b=1: None, "b is an addition that every caller notices"),
        ("a", lambda a, *, b: None, "b is an addition that every caller notices"),
        ("async a", lambda a: None, "one of them is a coroutine function, the other is not"),
    ],
)
def test_a_broken_promise_is_noticed(text: str, function: Callable[..., Any], said: str) -> None:
    assert complaint(text, function) == said


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_class_is_made_as_promised(name: str) -> None:
    assert complaint(f"self, {CONSTRUCTORS[name]}", getattr(package, name).__init__) == ""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_called_as_promised(name: str) -> None:
    owner, _, method = name.partition(".")
    assert complaint(METHODS[name], getattr(getattr(package, owner), method)) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_called_as_promised(name: str) -> None:
    assert complaint(FUNCTIONS[name], getattr(package, name)) == ""


@pytest.mark.parametrize("cls", OUTER, ids=lambda cls: cls.__name__)
def test_channels_and_adapters_are_made_as_promised(cls: type) -> None:
    assert complaint(OUTER[cls], cls) == ""


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_protocol_has_the_attributes_promised(name: str) -> None:
    hints = set(getattr(package, name).__annotations__)
    assert hints >= set(ATTRIBUTES[name])


async def test_what_a_channel_is_given_keeps_the_promises_of_its_protocol() -> None:
    """A protocol only describes: this is the host's own context, and its own stream."""
    async with serving(ScriptedAgent()) as served:
        stream = await served.stream("a", "x")
        made = {"ChannelContext": served.context, "HostedStream": stream}
        for name, promise in METHODS.items():
            owner, _, method = name.partition(".")
            if owner in made:
                assert complaint(promise, getattr(type(made[owner]), method)) == "", name
        assert served.context.documents and served.context.target
        assert stream.session is not None
        await stream.aclose()


def test_the_host_shows_its_app() -> None:
    assert isinstance(package.AgentFrameworkHost.app, property)


def test_a_request_is_copied_by_dataclasses_replace() -> None:
    request = package.ChannelRequest("probe", "test", "x")
    assert dataclasses.replace(request, input="y") == package.ChannelRequest("probe", "test", "y")
    assert (request.metadata, request.attributes) == ({}, {})
    assert request.metadata is not package.ChannelRequest("probe", "test", "x").metadata


def test_limits_and_pending_requests_are_frozen() -> None:
    pending = package.PendingRequest("1", "tool_approval", {}, None)
    for value, field in ((package.HostLimits(), "body_bytes"), (pending, "id")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, 1)


def test_values_show_what_they_were_made_of() -> None:
    session = package.ChannelSession("key", parent="parent")
    assert (session.isolation_key, session.parent) == ("key", "parent")
    identity = package.ChannelIdentity("probe", "ada", {"role": "admin"})
    assert (identity.channel, identity.native_id, identity.attributes) == ("probe", "ada", {"role": "admin"})
    keys = package.IsolationKeys("user", "chat")
    assert (keys.user_key, keys.chat_key, keys.is_empty) == ("user", "chat", False)
    assert package.IsolationKeys().is_empty
    pending = package.PendingRequest("1", "workflow_request", {}, None)
    result = package.HostedRunResult("text", session="session", pending=[pending])
    assert (result.result, result.session, result.pending) == ("text", "session", [pending])
    changed = result.replace(result="other")
    assert (changed.result, changed.session, changed.pending) == ("other", "session", [pending])
    assert result.replace(session=None, pending=()).session is None


def test_a_channel_is_known_by_its_shape() -> None:
    assert isinstance(InvocationsChannel(), package.Channel)
    assert not isinstance(object(), package.Channel)


def test_state_paths_are_two_and_may_be_left_out() -> None:
    assert (
        package.HostStatePaths.__optional_keys__
        == {"sessions", "checkpoints"}
        == set(get_type_hints(package.HostStatePaths))
    )


def test_the_headers_of_foundry_have_their_names() -> None:
    assert package.ISOLATION_HEADER_USER == "x-agent-user-isolation-key"
    assert package.ISOLATION_HEADER_CHAT == "x-agent-chat-isolation-key"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_a_hosting_error(name: str) -> None:
    assert issubclass(getattr(package, name), package.HostingError)
    assert issubclass(package.HostingError, Exception)


@pytest.mark.parametrize("name", MODULES)
def test_what_others_may_import_stays(name: str) -> None:
    module = importlib.import_module(f"agent_framework_hosting.{name}")
    assert module.__all__ == MODULES[name]
    assert all(hasattr(module, public) for public in MODULES[name])


def test_everything_promised_is_exported_and_all_that_is_exported_is_there() -> None:
    named = [*CONSTRUCTORS, *FUNCTIONS, *ATTRIBUTES, *ERRORS, *ALIASES]
    constants = ["HostStatePaths", "HostingError", "ISOLATION_HEADER_CHAT", "ISOLATION_HEADER_USER"]
    assert {*named, *constants} <= set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
