"""Functions that a client declares and runs itself, and which tools the model is to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json

from .checks import check_choice, check_fields, check_flag, check_list, check_object, check_text, join, shown
from .given_back import check_function_name

if TYPE_CHECKING:
    from agent_framework import FunctionTool, ToolMode

Mode = Literal["auto", "none", "required"]
MAX_TOOLS = 128
TOOL_FIELDS = frozenset({"description", "name", "parameters", "strict", "type"})
CHOICE_FIELDS = frozenset({"name", "type"})
ALLOWED_FIELDS = frozenset({"mode", "tools", "type"})


def read_tools(value: Json, field: str) -> tuple[list[FunctionTool], list[Json]]:
    """Give the functions as declarations, which an agent calls but never runs, and as the response shows them.

    Raises:
        InvalidRequest: A tool is hosted or malformed, or two have one name.
    """
    given = check_list(value, field)
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(field, f"{field} must be at most {MAX_TOOLS} functions.")
    tools: list[FunctionTool] = []
    echo: list[Json] = []
    names: set[str] = set()
    for index, each in enumerate(given):
        where = f"{field}[{index}]"
        tool, shown_tool = read_tool(check_object(each, where), where)
        if tool.name in names:
            raise InvalidRequest(join(where, "name"), f"{shown(tool.name)} is declared twice in {field}.")
        names.add(tool.name)
        tools.append(tool)
        echo.append(shown_tool)
    return tools, echo


def read_tool(tool: dict[str, Json], field: str) -> tuple[FunctionTool, Json]:
    from agent_framework import FunctionTool

    kind = check_text(tool.get("type"), join(field, "type"))
    if kind != "function":
        raise InvalidRequest(
            join(field, "type"),
            f"Tools of type {shown(kind)} are not run here: declare functions and run them.",
        )
    check_fields(tool, field, TOOL_FIELDS)
    name = check_function_name(tool.get("name"), join(field, "name"))
    description = tool.get("description")
    if description is not None:
        description = check_text(description, join(field, "description"))
    strict = tool.get("strict")
    if strict is not None:
        strict = check_flag(strict, join(field, "strict"))
    where = join(field, "parameters")
    given = tool.get("parameters")
    parameters: dict[str, Json] = {"type": "object", "properties": {}} if given is None else check_object(given, where)
    if parameters.get("type", "object") != "object":
        raise InvalidRequest(where, f"{where} must be the JSON schema of an object: its type must be object.")
    shown_tool: dict[str, Json] = {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": parameters,
        "strict": strict,
    }
    return FunctionTool(name=name, description=description or "", func=None, input_model=parameters), shown_tool


def read_tool_choice(value: Json, field: str) -> tuple[ToolMode, Json]:
    """Read `none`, `auto`, `required`, a function, or the functions that are allowed."""
    if isinstance(value, str):
        return {"mode": check_mode(value, field, ("none", "auto", "required"))}, value
    choice = check_object(value, field)
    kind = check_choice(choice.get("type"), join(field, "type"), ("function", "allowed_tools"))
    if kind == "function":
        name = read_choice(choice, field)
        return {"mode": "required", "required_function_name": name}, {"type": "function", "name": name}
    check_fields(choice, field, ALLOWED_FIELDS)
    given = choice.get("mode")
    mode = check_mode("auto" if given is None else given, join(field, "mode"), ("auto", "required"))
    where = join(field, "tools")
    tools = check_list(choice.get("tools"), where)
    if not 0 < len(tools) <= MAX_TOOLS:
        raise InvalidRequest(where, f"{where} must name 1 to {MAX_TOOLS} functions.")
    names = [read_choice(check_object(each, f"{where}[{i}]"), f"{where}[{i}]") for i, each in enumerate(tools)]
    shown_tools: list[Json] = [{"type": "function", "name": name} for name in names]
    return {"mode": mode, "allowed_tools": names}, {"type": "allowed_tools", "tools": shown_tools, "mode": mode}


def check_mode(value: Json, field: str, modes: tuple[Mode, ...]) -> Mode:
    for mode in modes:
        if value == mode:
            return mode
    raise InvalidRequest(field, f"{field} must be one of: {', '.join(modes)}.")


def read_choice(choice: dict[str, Json], field: str) -> str:
    check_choice(choice.get("type"), join(field, "type"), ("function",))
    check_fields(choice, field, CHOICE_FIELDS)
    return check_function_name(choice.get("name"), join(field, "name"))
