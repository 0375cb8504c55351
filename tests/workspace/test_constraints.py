"""The pins cover what is installed, on every Python, and name no address."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.workspace import CONSTRAINTS, ROOT, extras, packages

PINS = [Requirement(line) for line in CONSTRAINTS.read_text("utf-8").splitlines()]
OURS = {tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]["name"] for package in packages()}


def pins_for(python: str) -> dict[str, str]:
    """Return the pinned versions by name for a Python on Linux."""
    machine = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux"}
    wanted = (pin for pin in PINS if pin.marker is None or pin.marker.evaluate(machine))
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in wanted}


def test_a_pin_is_a_name_and_a_version() -> None:
    for pin in PINS:
        assert pin.url is None
        assert [specifier.operator for specifier in pin.specifier] == ["=="]


def test_each_python_has_one_pin_for_each_dependency() -> None:
    for python in ("3.11", "3.12", "3.13"):
        pins = pins_for(python)
        for package in packages():
            project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
            wanted = project["dependencies"] + [
                each for extra in extras(package) for each in project["optional-dependencies"][extra]
            ]
            for requirement in map(Requirement, wanted):
                if requirement.name not in OURS:
                    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)].removeprefix("=="))


def test_this_environment_holds_what_is_pinned() -> None:
    pins = pins_for(f"{sys.version_info[0]}.{sys.version_info[1]}")
    for found in importlib.metadata.distributions():
        name = canonicalize_name(found.metadata["Name"])
        if name not in OURS and name != "pip":
            assert pins[name] == f"=={found.version}"


def test_the_licence_is_the_same_everywhere() -> None:
    texts = {(package / "LICENSE").read_text("utf-8") for package in packages()}
    assert texts == {(ROOT / "LICENSE").read_text("utf-8")}
