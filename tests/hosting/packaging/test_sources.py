"""Which of the operator's files are packed."""

from __future__ import annotations

import pytest

from tests.hosting.packaging.making import Workshop

CODE = {"app.py", "requirements.txt"}


def test_code_and_data_are_packed_without_what_tools_made_or_tests_need(workshop: Workshop) -> None:
    for name in ("bots/tea.py", "bots/build/plan.py", "data/menu.json", "test/lab.py", "latest_test/x.py"):
        workshop.write(name)
    for name in (
        "__pycache__/app.cpython-313.pyc",
        "bots/__pycache__/tea.cpython-313.pyc",
        ".venv/lib/x.py",
        "env/pyvenv.cfg",
        "env/lib/x.py",
        ".git/config",
        "node_modules/x/index.js",
        "tests/data.json",
        "bots/tests/helper.py",
        "bots/test/test_tea.py",
        "test_app.py",
        "conftest.py",
        "build/tea.py",
        "dist/tea-1.0-py3-none-any.whl",
        "mine.egg-info/PKG-INFO",
    ):
        workshop.write(name)
    said = workshop.pack()
    kept = {"bots/tea.py", "bots/build/plan.py", "data/menu.json", "test/lab.py", "latest_test/x.py"}
    assert workshop.names() == CODE | kept
    assert said == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", "KEY=1"),
        ("bots/.env.production", "KEY=1"),
        (".aws/credentials", "secret"),
        ("local.settings.json", "{}"),
        ("server.KEY", "x"),
        ("id_ed25519", "x"),
        ("certificate.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"),
    ],
)
def test_what_may_be_a_secret_is_left_out_and_that_is_said(workshop: Workshop, name: str, text: str) -> None:
    path = workshop.write(name, text)
    shown = ".aws" if name.startswith(".aws/") else name
    said = workshop.pack()
    assert workshop.names() == CODE
    assert f"{shown} is left out: " in said
    if path.parent == workshop.app:
        requirements = f"--requirements={workshop.app / 'requirements.txt'}"
        workshop.output.unlink()
        assert f"{name} is not packed: " in workshop.refused(requirements, sources=[path])


def test_a_certificate_is_no_secret(workshop: Workshop) -> None:
    workshop.write("ca.pem", "-----BEGIN CERTIFICATE-----\n")
    assert workshop.pack() == ""
    assert workshop.names() == CODE | {"ca.pem"}


def test_links_are_followed_inside_a_source_and_never_out_of_it_or_to_secrets(workshop: Workshop) -> None:
    outside = workshop.root / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("x = 1")
    workshop.write(".env", "KEY=1")
    workshop.write("data/menu.json", "tea")
    for name, to in {
        "menu.json": "data/menu.json",
        "plain.txt": ".env",
        "out.py": "../outside/secret.py",
        "absolute.py": str(outside / "secret.py"),
        "folder": "../outside",
        "again": ".",
        "nothing": "gone",
    }.items():
        (workshop.app / name).symlink_to(to)
    said = workshop.pack()
    assert workshop.names() == CODE | {"data/menu.json", "menu.json"}
    assert workshop.read("menu.json") == "tea"
    for name in ("plain.txt", "out.py", "absolute.py", "folder", "again", "nothing"):
        assert f"{name} is left out: " in said


def test_files_and_folders_meet_at_the_root_and_must_not_differ_there(workshop: Workshop) -> None:
    beside = workshop.root / "shared.py"
    beside.write_text("x = 1")
    workshop.pack(sources=[workshop.app, beside, beside])
    assert workshop.names() == CODE | {"shared.py"}
    other = workshop.root / "other" / "app.py"
    other.parent.mkdir()
    other.write_text("another")
    workshop.output.unlink()
    assert "rename one of them" in workshop.refused(sources=[workshop.app, other])


def test_an_earlier_artefact_and_wheels_in_the_source_are_not_packed(workshop: Workshop) -> None:
    workshop.wheels = workshop.wheels.rename(workshop.app / "house")
    workshop.output = workshop.app / "function.zip"
    for _ in range(2):
        workshop.pack()
        assert workshop.names() == CODE


@pytest.mark.parametrize("name", ["tea.py", "packaged.lock.txt"])
def test_no_file_of_the_operator_takes_the_place_of_another(workshop: Workshop, name: str) -> None:
    workshop.write(name, "mine")
    assert f"{name} is " in workshop.refused()


def test_names_that_are_no_text_are_left_out_and_none_reaches_the_terminal_as_it_is(workshop: Workshop) -> None:
    for name in ("strange\udcff.py", "strange\udcff"):
        workshop.write(f"data/{name}/x.txt" if "." not in name else name)
    workshop.write(".red\x1b[31m")
    said = workshop.pack()
    assert workshop.names() == CODE
    assert said.count("its name is not UTF-8") == 2
    assert "\x1b" not in said


def test_an_artefact_needs_no_package(workshop: Workshop) -> None:
    workshop.require("# none")
    workshop.pack()
    assert workshop.names() == CODE


def test_an_output_that_cannot_be_written_is_an_error(workshop: Workshop) -> None:
    workshop.output.mkdir()
    code, _, said = workshop.run("--no-bytecode")
    assert code == 1
    assert "function.zip" in said
    assert [path.name for path in workshop.root.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_there_is_named(workshop: Workshop) -> None:
    gone = workshop.root / "gone"
    assert "There is no" in workshop.refused(sources=[gone])
    (workshop.app / "requirements.txt").unlink()
    assert "--requirements" in workshop.refused()
    assert str(gone) in workshop.refused("--constraints", str(gone), "--requirements", str(workshop.app / "app.py"))
