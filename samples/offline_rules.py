"""How the offline model decides: rules over the words of the conversation and the declared tools.

It notes facts ("my name is Ada"), recalls them ("what is my name?"), picks the tool whose name and description share
the rarest words with what the user says, and fills its arguments from the text by the tool's JSON schema.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FACT = re.compile(r"\bmy ([a-z][a-z ]*?) (?:is|are) ([^.,;!?]+?)(?=\s+and\b|[.,;!?]|$)", re.IGNORECASE)
RECALL = re.compile(
    r"\b(?:(?:what|who|which)(?:'s| is| are| was)|remember|know|tell me) my ([a-z][a-z ]*?)"
    r"(?=\s+and\b|\s*(?:[.,;!?]|$))",
    re.IGNORECASE,
)
CLAUSE = re.compile(r"(?<=[.?!;])\s+|,?\s+(?:and|then)\s+", re.IGNORECASE)
TOKEN = re.compile(r"[\w#-]*\w")
QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
REASON = re.compile(r"\b(?:because|since|as)\s+(.+?)[.!?]*$", re.IGNORECASE)
STOP_WORDS = re.compile(
    r"a|about|an|and|are|as|at|be|can|could|do|for|from|get|have|how|i|in|is|it|its|me|my|of|on|or|please|so|that|the|"
    r"their|them|this|to|want|was|what|when|where|which|who|why|will|with|would|you|your"
)


@dataclass(frozen=True)
class Tool:
    """A declared tool; `careful` ones lose ties, because somebody must approve them."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    careful: bool = False


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Call:
    tool: str
    arguments: Mapping[str, Any]


def plan(text: str, earlier: Sequence[str], tools: Sequence[Tool]) -> list[Say | Call]:
    """Decide what to say and which tools to call for `text`; `earlier` is what the user said before, oldest first."""
    clauses: list[str] = []
    for piece in filter(None, CLAUSE.split(text.strip())):
        if clauses and understand(piece, [*earlier, *clauses], tools) is None:
            clauses[-1] = f"{clauses[-1]} and {piece}"
        else:
            clauses.append(piece)
    heard = list(earlier)
    steps: list[Say | Call] = []
    for clause in clauses:
        if (step := understand(clause, heard, tools)) is not None:
            steps.append(step)
        heard.append(clause)
    return steps or [Say(introduction(text, tools))]


def understand(clause: str, earlier: Sequence[str], tools: Sequence[Tool]) -> Say | Call | None:
    question = RECALL.search(clause)
    if question is not None and (value := recall(question[1], earlier)) is not None:
        return Say(f"Your {question[1].lower()} is {value}.")
    if question is None and not clause.endswith("?") and (fact := FACT.search(clause)) is not None:
        return Say(f"Noted: your {fact[1].lower()} is {fact[2].strip()}.")
    if (tool := choose(clause, tools)) is not None:
        return call(tool, clause, earlier)
    return Say(f"You have not told me your {question[1].lower()} yet.") if question is not None else None


def recall(subject: str, earlier: Sequence[str]) -> str | None:
    for said in reversed(earlier):
        for fact in reversed(FACT.findall(said)):
            if fact[0].lower() == subject.lower():
                return fact[1].strip()
    return None


def choose(clause: str, tools: Sequence[Tool]) -> Tool | None:
    """Pick the tool that shares the most telling words: a word that many tools use tells little."""
    vocabulary = [(stems(tool.name.replace("_", " ")), stems(tool.description)) for tool in tools]
    uses = Counter(word for name, description in vocabulary for word in name | description)
    said = stems(clause)

    def score(index: int) -> float:
        name, description = vocabulary[index]
        return sum(2 / uses[word] for word in said & name) + sum(1 / uses[word] for word in (said & description) - name)

    ranked = sorted(range(len(tools)), key=lambda index: (-score(index), tools[index].careful))
    return tools[ranked[0]] if ranked and score(ranked[0]) >= 0.5 else None


def call(tool: Tool, clause: str, earlier: Sequence[str]) -> Say | Call:
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties", {})
    required: Sequence[str] = tool.parameters.get("required", ())
    arguments: dict[str, Any] = {}
    for name, schema in properties.items():
        value = argument(name, schema, clause)
        if value is None and name in required:
            value = from_facts(name, schema, clause, earlier) or from_earlier(name, schema, earlier)
        if value is None and name in required and is_free_text(name, schema):
            value = clause
        if value is not None:
            arguments[name] = value
        elif name in required:
            return Say(f"Please tell me the {schema.get('description') or name.replace('_', ' ')}.")
    return Call(tool.name, arguments)


def argument(name: str, schema: Mapping[str, Any], text: str) -> Any | None:
    """Find a value for one property in `text`; None where there is none."""
    tokens: list[str] = TOKEN.findall(text)
    if (choices := schema.get("enum")) is not None:
        said = {token.lower() for token in tokens}
        return next((choice for choice in choices if str(choice).lower() in said), None)
    match schema.get("type"):
        case "integer":
            return next((int(token) for token in tokens if token.isdecimal()), None)
        case "number":
            number = re.search(r"\d+(?:\.\d+)?", text)
            return float(number[0]) if number is not None else None
        case "boolean":
            return None
        case _:
            return text_argument(name, schema, text, tokens)


def text_argument(name: str, schema: Mapping[str, Any], text: str, tokens: Sequence[str]) -> str | None:
    if (pattern := schema.get("pattern")) is not None:
        return next((token for token in tokens if re.search(pattern, token)), None)
    if not is_free_text(name, schema):
        return next((token for token in tokens if any(letter.isdigit() for letter in token)), None)
    label = re.escape(name.replace("_", " "))
    for pattern in (QUOTED, re.compile(rf"\b{label}(?: is|:|=)?\s+(\w+)", re.IGNORECASE), REASON):
        if (found := pattern.search(text)) is not None:
            return found[1]
    return None


def from_facts(name: str, schema: Mapping[str, Any], clause: str, earlier: Sequence[str]) -> Any | None:
    """Take what the user called their own: after "my order is 12", "where is my parcel?" is about order 12."""
    if is_free_text(name, schema) or re.search(r"\bmy\b", clause, re.IGNORECASE) is None:
        return None
    own = (fact for said in reversed(earlier) for fact in reversed(FACT.findall(said)))
    meant = (fact[1] for fact in own if stems(fact[0]) & stems(name.replace("_", " ")))
    return next((value for text in meant if (value := argument(name, schema, text)) is not None), None)


def from_earlier(name: str, schema: Mapping[str, Any], earlier: Sequence[str]) -> Any | None:
    """Take what was said last: that is what "it" means. Free text is never carried over."""
    if is_free_text(name, schema):
        return None
    return next((value for said in reversed(earlier) if (value := argument(name, schema, said)) is not None), None)


def is_free_text(name: str, schema: Mapping[str, Any]) -> bool:
    is_text = schema.get("type", "string") == "string" and "enum" not in schema and "pattern" not in schema
    return is_text and name.rpartition("_")[2] not in ("id", "number", "code")


def introduction(text: str, tools: Sequence[Tool]) -> str:
    if not tools:
        return f"You said: {text}"
    return "I can help with: " + ", ".join(tool.name.replace("_", " ") for tool in tools) + "."


def stems(text: str) -> set[str]:
    return {stem(word) for word in re.findall(r"[a-z]+", text.lower()) if STOP_WORDS.fullmatch(word) is None}


def stem(word: str) -> str:
    for ending, shortest in (("ing", 6), ("ed", 5), ("s", 4)):
        if word.endswith(ending) and not word.endswith("ss") and len(word) >= shortest:
            return word[: -len(ending)]
    return word
