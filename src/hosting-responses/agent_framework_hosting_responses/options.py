"""What a body may set beside its input: labels that are only shown, and options that an operator forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agent_framework_hosting import ConfigurationError, InvalidRequest
from agent_framework_hosting.body import Json

from .checks import (
    check_choice,
    check_count,
    check_fields,
    check_flag,
    check_list,
    check_number,
    check_object,
    check_text,
    join,
    name_of,
    shown,
)
from .formats import read_text_settings
from .rules import Rules
from .tools import read_tool_choice, read_tools

MAX_COUNT = 2**31 - 1
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512
MAX_MODEL = 256
LABELS = {"prompt_cache_key": 64, "safety_identifier": 64, "user": 512}
INCLUDES = frozenset({"message.output_text.logprobs", "reasoning.encrypted_content"})
EFFORTS = frozenset({"high", "low", "medium", "none", "xhigh"})
SUMMARIES = frozenset({"auto", "concise", "detailed"})
REASONING_FIELDS = frozenset({"effort", "summary"})
TIERS = frozenset({"auto", "default", "flex", "priority"})
NUMBERS = {
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "temperature": (0, 2),
    "top_p": (0, 1),
}
# Each with its name among the framework's chat options and its least value.
COUNTS = {
    "max_output_tokens": ("max_tokens", 16),
    "max_tool_calls": ("max_tool_calls", 1),
}
# Parameters of the API that mean a service's own things. Clients send null for what they do not set.
REFUSED = {
    "access_programs": "there are none here",
    "background_options": "there are none here",
    "context_management": "the agent manages its own context",
    "image": "the agent makes images with its own tools",
    "moderation": "the agent has its own rules",
    "prompt": "stored prompts belong to a service account: send the text as input",
    "prompt_cache_options": "the agent has its own",
    "prompt_cache_retention": "the agent has its own",
}
# Read in `parsing`.
REQUEST = frozenset(
    {
        "background",
        "conversation",
        "input",
        "instructions",
        "previous_response_id",
        "store",
        "stream",
    }
)


class Settings(msgspec.Struct, frozen=True):
    """`options` are the framework's chat options; `echo` is what the response object shows of the request."""

    options: dict[str, Any] = {}
    echo: dict[str, Json] = {}


def read_settings(body: dict[str, Json], rules: Rules) -> Settings:
    """Read every parameter that is not part of the request itself.

    Raises:
        InvalidRequest: A parameter is unknown, refused, not forwarded, or out of its range.
    """
    settings = Settings()
    for name, value in body.items():
        if name in REQUEST:
            continue
        read = READERS.get(name)
        if read is None:
            if name not in REFUSED or value is not None:
                refuse(name)
        elif value is not None:
            read(name, value, rules, settings)
    return settings


def refuse(name: str) -> None:
    why = REFUSED.get(name, "it is not a parameter of this API")
    raise InvalidRequest(name_of(name), f"{shown(name)} is not taken here: {why}.")


def check_forward_options(names: Iterable[str]) -> frozenset[str]:
    """Check an operator's list of parameters that callers may set.

    Raises:
        ConfigurationError: One of them cannot be forwarded.
    """
    if isinstance(names, str):
        names = (names,)
    chosen = frozenset(names)
    if not chosen <= FORWARDABLE:
        unknown = ", ".join(sorted(str(name) for name in chosen - FORWARDABLE))
        raise ConfigurationError(
            f"forward_options cannot hold {unknown}: choose from {', '.join(sorted(FORWARDABLE))}."
        )
    return chosen


def check_forwarded(name: str, rules: Rules) -> None:
    if name not in rules.forward:
        raise InvalidRequest(
            name, f"{name} is set by the operator of this agent, who has to list it in forward_options to let callers."
        )


def read_number(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    settings.options[name] = settings.echo[name] = check_number(value, name, *NUMBERS[name])


def read_count(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    option, least = COUNTS[name]
    settings.options[option] = settings.echo[name] = check_count(value, name, least, MAX_COUNT)


def read_top_logprobs(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    settings.options[name] = settings.echo[name] = check_count(value, name, 0, 20)


def read_parallel(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    settings.options["allow_multiple_tool_calls"] = settings.echo[name] = check_flag(value, name)


def read_declared(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    if value == []:  # Clients send it for what they do not have.
        return
    check_forwarded(name, rules)
    settings.options[name], settings.echo[name] = read_tools(value, name)


def read_choice(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    if value == "auto" and name not in rules.forward:  # The framework's client sends it beside tools.
        return
    check_forwarded(name, rules)
    settings.options[name], settings.echo[name] = read_tool_choice(value, name)


def read_text(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    options, settings.echo[name] = read_text_settings(value, name)
    settings.options.update(options)


def read_reasoning(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    check_forwarded(name, rules)
    given = check_object(value, name)
    check_fields(given, name, REASONING_FIELDS)
    effort, summary = given.get("effort"), given.get("summary")
    if effort is not None:
        effort = check_choice(effort, join(name, "effort"), EFFORTS)
    if summary is not None:
        summary = check_choice(summary, join(name, "summary"), SUMMARIES)
    chosen = {key: each for key, each in (("effort", effort), ("summary", summary)) if each is not None}
    if chosen:
        settings.options[name] = chosen
        settings.echo[name] = {"effort": effort, "summary": summary}


def read_truncation(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    chosen = check_choice(value, name, ("auto", "disabled"))
    if chosen != "disabled":
        check_forwarded(name, rules)
    if name in rules.forward:
        settings.options[name] = chosen
    settings.echo[name] = chosen


def read_service_tier(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    chosen = check_choice(value, name, TIERS)
    if chosen not in ("auto", "default"):
        check_forwarded(name, rules)
    if name in rules.forward:
        settings.options[name] = chosen
    settings.echo[name] = chosen


def read_model(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    """A label, unless it is forwarded: which model answers is the agent's own choice."""
    model = check_text(value, name, least=1, most=MAX_MODEL)
    if name in rules.forward:
        settings.options[name] = model


def read_label(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    settings.echo[name] = check_text(value, name, most=LABELS[name])


def read_metadata(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    settings.echo[name] = dict[str, Json](check_metadata(value, name))


def check_metadata(value: Json, name: str) -> dict[str, str]:
    """Check pairs of short texts.

    Raises:
        InvalidRequest: There are too many, or one is too long or no text.
    """
    pairs = check_object(value, name)
    if len(pairs) > MAX_PAIRS:
        raise InvalidRequest(name, f"{name} must have at most {MAX_PAIRS} pairs.")
    if any(len(key) > MAX_KEY for key in pairs):
        raise InvalidRequest(name, f"The keys of {name} must have at most {MAX_KEY} characters.")
    return {key: check_text(text, join(name, key), most=MAX_VALUE) for key, text in pairs.items()}


def read_stream_options(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    given = check_object(value, name)
    check_fields(given, name, frozenset({"include_obfuscation"}))
    if given.get("include_obfuscation") is not None:
        check_flag(given["include_obfuscation"], join(name, "include_obfuscation"))


def read_include(name: str, value: Json, rules: Rules, settings: Settings) -> None:
    """What is asked for is there where the agent gives it, and else lacking as with any other model."""
    for index, each in enumerate(check_list(value, name)):
        check_choice(each, f"{name}[{index}]", INCLUDES)


Read = Callable[[str, Json, Rules, Settings], None]
FREE: dict[str, Read] = {
    **dict.fromkeys(LABELS, read_label),
    "include": read_include,
    "metadata": read_metadata,
    "stream_options": read_stream_options,
}
READERS: dict[str, Read] = {
    **FREE,
    **dict.fromkeys(NUMBERS, read_number),
    **dict.fromkeys(COUNTS, read_count),
    "model": read_model,
    "parallel_tool_calls": read_parallel,
    "reasoning": read_reasoning,
    "service_tier": read_service_tier,
    "text": read_text,
    "tool_choice": read_choice,
    "tools": read_declared,
    "top_logprobs": read_top_logprobs,
    "truncation": read_truncation,
}
FORWARDABLE = frozenset(READERS.keys() - FREE.keys())
