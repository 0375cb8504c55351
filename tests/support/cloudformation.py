"""What CloudFormation makes of a template and parameters before it makes anything: a template without choices.

Only what needs no account is worked out: parameters, rules, conditions, mappings, and the functions over them.
References to resources, to their attributes and to pseudo parameters (`AWS::Region`) stay as they are. By the template
reference: *Rules*, *Conditions*, *Intrinsic functions*. Standard library only, since SAM's own Python imports it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ABSENT = object()


class Refused(Exception):
    """A parameter or a rule refuses the deployment; the message is what the person who deploys reads."""


class Choices:
    """One template with one set of parameters; `given` are strings, as CloudFormation takes them."""

    def __init__(self, template: Mapping[str, Any], given: Mapping[str, str]) -> None:
        self.template = template
        declared: dict[str, Any] = template["Parameters"]
        if unknown := given.keys() - declared.keys():
            raise Refused(f"Unknown parameters: {sorted(unknown)}")
        self.values = {name: given.get(name, str(each.get("Default"))) for name, each in declared.items()}
        for name, value in self.values.items():
            self.check(name, value, declared[name])
        for rule in template.get("Rules", {}).values():
            if self.true(rule.get("RuleCondition", True)):
                for each in rule["Assertions"]:
                    if not self.true(each["Assert"]):
                        raise Refused(each["AssertDescription"])

    def check(self, name: str, value: str, declared: Mapping[str, Any]) -> None:
        allowed = [str(each) for each in declared.get("AllowedValues", [value])]
        fits = value in allowed and re.search(declared.get("AllowedPattern", ""), value) is not None
        fits &= len(value) <= int(declared.get("MaxLength", len(value)))
        if fits and declared["Type"] == "Number":
            number = float(value)
            fits = float(declared.get("MinValue", number)) <= number <= float(declared.get("MaxValue", number))
        if not fits:
            raise Refused(f"{name} may not be {value!r}")

    def true(self, test: Any) -> bool:
        """Work out a condition."""
        if not isinstance(test, dict):
            return bool(test)
        ((function, of),) = test.items()
        match function:
            case "Condition":
                return self.true(self.template["Conditions"][of])
            case "Fn::Not":
                return not self.true(of[0])
            case "Fn::And":
                return all(self.true(each) for each in of)
            case "Fn::Or":
                return any(self.true(each) for each in of)
            case "Fn::Equals":
                left, right = (str(self.value(each)) for each in of)
                return left == right
            case _:
                raise NotImplementedError(function)

    def value(self, of: Any) -> Any:
        """Work out a value as far as it goes; `ABSENT` stands for `AWS::NoValue`."""
        if isinstance(of, list):
            return [each for each in map(self.value, of) if each is not ABSENT]
        if not isinstance(of, dict):
            return of
        if len(of) == 1:
            ((function, argument),) = of.items()
            if function == "Ref":
                return ABSENT if argument == "AWS::NoValue" else self.values.get(argument, of)
            if function == "Fn::If":
                condition, yes, no = argument
                return self.value(yes if self.true({"Condition": condition}) else no)
            if function == "Fn::FindInMap":
                name, first, second = map(self.value, argument)
                return self.template["Mappings"][name][first][second]
            if function == "Fn::Sub" and isinstance(argument, str):
                return self.substituted(argument)
        settled = {name: self.value(each) for name, each in of.items()}
        return {name: each for name, each in settled.items() if each is not ABSENT}

    def substituted(self, text: str) -> Any:
        text = re.sub(r"\$\{(\w+)\}", lambda found: self.values.get(found[1], found[0]), text)
        return {"Fn::Sub": text} if "${" in text else text

    def settled(self) -> dict[str, Any]:
        """Give the template that is left: resources and outputs that come to be, with nothing to choose."""
        made: dict[str, Any] = {"AWSTemplateFormatVersion": "2010-09-09"}
        for part in ("Resources", "Outputs"):
            there = {
                name: {key: value for key, value in each.items() if key != "Condition"}
                for name, each in self.template[part].items()
                if "Condition" not in each or self.true({"Condition": each["Condition"]})
            }
            made[part] = self.value(there)
        return made
